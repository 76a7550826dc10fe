//! What the user can mend: wrong arguments, a file that cannot be used. `EX_USAGE` of `sysexits.h`.

use std::process::ExitCode;

use crate::output::ReaderGone;

/// The exit code of what is the user's to mend.
pub(crate) const EX_USAGE: u8 = 64;

/// An error that is the user's to mend; it says what to write instead.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Makes an `anyhow` error of one that is the user's to mend.
pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}

/// Prints what clap has to say: help to stdout with 0, anything else to stderr with 64.
pub(crate) fn clap_exit(error: &clap::Error) -> ExitCode {
    // A closed stdout leaves nobody to tell.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS }
}

/// The code of a run in which a part could not work with what the user gave it; the part has said why.
pub(crate) fn refused() -> ExitCode {
    ExitCode::from(EX_USAGE)
}

/// Prints an error with all its causes, and says with which code to end.
pub(crate) fn exit(error: &anyhow::Error) -> ExitCode {
    if error.is::<ReaderGone>() {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {error:#}");
    if error.is::<Usage>() { ExitCode::from(EX_USAGE) } else { ExitCode::FAILURE }
}
