//! What others wrote, on its way into a prompt: made visible, fenced, and searched for instructions.
//!
//! None of this is what keeps a decision safe: decisions are made by rules that read no prose. It keeps an honest model
//! from taking data for orders, and puts the attempt on record.

mod fence;
pub mod injection;
mod visible;

pub use fence::{PREFACE, fence, fenced_json};
pub use injection::{Disguise, Family, Sign};
pub use visible::visible;
