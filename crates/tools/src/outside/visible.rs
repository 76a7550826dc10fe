//! Characters that a person does not see, and a model reads.

/// Tag characters: ASCII that is not drawn.
const TAGS: std::ops::RangeInclusive<char> = '\u{e0000}'..='\u{e007f}';

/// How a character looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// It is seen.
    Seen,
    /// It is not, and honest texts have it: a soft hyphen, a joiner of Persian or of an emoji.
    Joins,
    /// It turns the order of what follows.
    Turns,
    /// A copy of ASCII that nobody sees.
    Tag,
    /// A control character.
    Controls,
}

/// Whether a text is ASCII, and all of it is seen: most are, and nothing can hide in them but words.
pub(super) fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'\n' | b'\t' | b'\r' | b' '..=b'~'))
}

pub(super) fn look(c: char) -> Look {
    match c {
        '\n' | '\t' | '\r' => Look::Seen,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' => Look::Controls,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => Look::Turns,
        c if TAGS.contains(&c) => Look::Tag,
        '\u{ad}'
        | '\u{34f}'
        | '\u{61c}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2060}'..='\u{2065}'
        | '\u{206a}'..='\u{206f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0100}'..='\u{e01ef}' => Look::Joins,
        _ => Look::Seen,
    }
}

/// The text as a person sees it: what joins is left out, what turns or controls is shown by its number, and of hidden
/// copies of ASCII it is said how long they are.
pub fn visible(text: &str) -> String {
    if is_plain(text) || text.chars().all(|c| look(c) == Look::Seen) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut hidden = 0usize;
    let end_run = |out: &mut String, hidden: &mut usize| {
        if *hidden > 0 {
            out.push_str(&format!("[{hidden} hidden characters]"));
        }
        *hidden = 0;
    };
    for c in text.chars() {
        match look(c) {
            Look::Tag => {
                hidden += 1;
                continue;
            }
            _ => end_run(&mut out, &mut hidden),
        }
        match look(c) {
            Look::Seen => out.push(c),
            Look::Joins | Look::Tag => {}
            Look::Turns | Look::Controls => out.push_str(&format!("[U+{:04X}]", u32::from(c))),
        }
    }
    end_run(&mut out, &mut hidden);
    out
}

/// The hidden copies of ASCII, as ASCII.
pub(super) fn hidden_ascii(text: &str) -> String {
    if text.is_ascii() {
        return String::new();
    }
    let hidden = text.chars().filter(|c| TAGS.contains(c));
    hidden.filter_map(|c| char::from_u32(u32::from(c) - 0xe0000)).filter(|c| matches!(c, ' '..='~')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_stays() {
        for text in ["", "plain\ttext\r\n", "Müller, Łódź, 北京, שלום", "P<UTO<<"] {
            assert_eq!(visible(text), text);
        }
    }

    #[test]
    fn what_is_not_seen_is_left_out_or_shown() {
        assert_eq!(visible("ap\u{200b}pro\u{ad}ve"), "approve");
        assert_eq!(visible("a\u{202e}b"), "a[U+202E]b");
        assert_eq!(visible("\u{1b}[2J"), "[U+001B][2J");
        let tagged: String = "obey".chars().filter_map(|c| char::from_u32(u32::from(c) + 0xe0000)).collect();
        assert_eq!(visible(&format!("x{tagged}y{tagged}")), "x[4 hidden characters]y[4 hidden characters]");
        assert_eq!(hidden_ascii(&format!("x{tagged}y")), "obey");
    }
}
