//! Whether the name on a document is the name that was declared.
//!
//! A zone writes names in capitals A–Z, may leave out what does not fit, and puts the surname first; people leave out
//! middle names and shorten given ones. So parts are compared, in any order, and the worst one counts.

/// From here on two parts may be forms of one name.
const MAY_BE_A_FORM: f64 = 0.80;
/// From here on they are close: `JON` and `JOHN` have 0.93.
const CLOSE: f64 = 0.92;
/// An initial for a name.
const INITIAL: f64 = 0.95;

/// How alike two names are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Likeness {
    /// The same.
    Same,
    /// Perhaps a form of it; the score of the worst part.
    Variant(f64),
    /// Another name; the score of the worst part.
    Different(f64),
}

impl Likeness {
    /// How sure rules alone can be that it is one person's name.
    pub(crate) fn bound(self) -> f64 {
        match self {
            Self::Same => 0.99,
            Self::Variant(score) if score >= CLOSE => 0.98,
            Self::Variant(_) => 0.90,
            Self::Different(_) => 0.0,
        }
    }
}

/// Compares what was declared with the surname and given names of a document. `None` if either is empty.
pub(crate) fn compare(declared: &str, surname: &str, given: &str, may_be_cut: bool) -> Option<Likeness> {
    let (surname, given) = (parts(&plain(surname)), parts(&plain(given)));
    if surname.is_empty() && given.is_empty() {
        return None;
    }
    let spellings = [plain(declared), as_in_a_zone(declared)];
    let scores = spellings.iter().filter_map(|d| score(&parts(d), &surname, &given, may_be_cut));
    let best = scores.max_by(f64::total_cmp)?;
    Some(match best {
        best if best > 0.999 => Likeness::Same,
        best if best >= MAY_BE_A_FORM => Likeness::Variant(best),
        best => Likeness::Different(best),
    })
}

fn score(declared: &[String], surname: &[String], given: &[String], may_be_cut: bool) -> Option<f64> {
    if declared.is_empty() {
        return None;
    }
    let document: Vec<&String> = surname.iter().chain(given).collect();
    let joined = |parts: &[&String]| parts.iter().map(|p| p.as_str()).collect::<String>();
    let forwards = joined(&declared.iter().collect::<Vec<_>>());
    let in_order = given.iter().chain(surname).collect::<Vec<_>>();
    if forwards == joined(&document) || forwards == joined(&in_order) {
        return Some(1.0);
    }
    let best = |part: &String, others: &[&String]| {
        others.iter().map(|o| pair(part, o, may_be_cut)).max_by(f64::total_cmp).unwrap_or(0.0)
    };
    // More was declared than fits into the zone: what is cut off cannot be compared.
    let comparable = if may_be_cut { declared.len().min(document.len()) } else { declared.len() };
    let mut scores: Vec<f64> = declared.iter().map(|d| best(d, &document)).collect();
    scores.sort_by(|a, b| b.total_cmp(a));
    let worst = scores.into_iter().take(comparable).fold(1.0, f64::min);
    // A surname may not be left out, a middle name may.
    let declared: Vec<&String> = declared.iter().collect();
    let worst_surname = surname.iter().map(|s| best(s, &declared)).fold(1.0, f64::min);
    Some(worst.min(worst_surname))
}

fn pair(a: &str, b: &str, may_be_cut: bool) -> f64 {
    let starts = a.starts_with(b) || b.starts_with(a);
    if a == b {
        1.0
    } else if starts && a.len().min(b.len()) == 1 {
        INITIAL
    } else if starts && may_be_cut {
        1.0
    } else {
        strsim::jaro_winkler(a, b)
    }
}

/// Capitals A–Z with blanks between parts.
fn plain(name: &str) -> String {
    deunicode::deunicode(&name.replace(['\'', '’', '`'], "")).to_ascii_uppercase()
}

/// As ICAO 9303-3 (section 6) would write it in a zone, where that differs from leaving the accents off.
fn as_in_a_zone(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for character in name.to_uppercase().chars() {
        match character {
            'Ä' | 'Æ' => out.push_str("AE"),
            'Ö' | 'Ø' | 'Œ' => out.push_str("OE"),
            'Ü' => out.push_str("UE"),
            'Å' => out.push_str("AA"),
            'Þ' => out.push_str("TH"),
            other => out.push(other),
        }
    }
    plain(&out)
}

fn parts(name: &str) -> Vec<String> {
    name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|p| !p.is_empty()).take(16).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn like(declared: &str, surname: &str, given: &str) -> Option<Likeness> {
        compare(declared, surname, given, false)
    }

    #[test]
    fn the_same_name_in_other_words() {
        for (declared, surname, given) in [
            ("Ava Marie Specimen", "SPECIMEN", "AVA MARIE"),
            ("SPECIMEN, Ava", "SPECIMEN", "AVA MARIE"),
            ("Jürgen Müller", "MUELLER", "JUERGEN"),
            ("Jürgen Müller", "MULLER", "JURGEN"),
            ("Sinéad O'Neill", "ONEILL", "SINEAD"),
            ("Søren Ångström", "ANGSTROM", "SOREN"),
            ("Anna-Maria Eriksson", "ERIKSSON", "ANNA MARIA"),
            ("Annamaria Eriksson", "ERIKSSON", "ANNA MARIA"),
        ] {
            assert_eq!(like(declared, surname, given), Some(Likeness::Same), "{declared}");
        }
    }

    #[test]
    fn forms_of_a_name_are_variants() {
        for declared in ["Jon Albert Specimen", "J. Albert Specimen", "Johnn Specimen"] {
            let likeness = like(declared, "SPECIMEN", "JOHN ALBERT");
            assert!(matches!(likeness, Some(Likeness::Variant(s)) if s >= CLOSE), "{declared}: {likeness:?}");
        }
    }

    #[test]
    fn another_name_is_another_name() {
        for declared in ["Leo Specimen", "Ava Marie Sample", "Ava Marie", "Мария Иванова"] {
            let likeness = like(declared, "SPECIMEN", "AVA MARIE");
            assert!(matches!(likeness, Some(Likeness::Different(_))), "{declared}: {likeness:?}");
        }
    }

    #[test]
    fn nothing_compares_with_nothing() {
        assert_eq!(like("", "SPECIMEN", "AVA"), None);
        assert_eq!(like("--", "SPECIMEN", "AVA"), None);
        assert_eq!(like("Ava", "", ""), None);
    }

    #[test]
    fn what_does_not_fit_into_the_zone_is_not_held_against_anyone() {
        let cut =
            compare("With Very Many Givennames Verylongsurname", "VERYLONGSURNAME", "WITH VERY MANY GIVENNA", true);
        assert_eq!(cut, Some(Likeness::Same));
    }
}
