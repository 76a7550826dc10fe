use jiff::civil::date;

use super::*;

const TODAY: Date = date(2026, 11, 24);

fn parse(lines: &[&str]) -> Mrz {
    Mrz::parse(lines.iter().copied(), TODAY).unwrap()
}

fn wrong(mrz: &Mrz) -> Vec<(Checked, char, char)> {
    mrz.wrong_checks().map(|c| (c.over, c.expected, c.found)).collect()
}

const LINE_1: &str = "P<UTOSPECIMEN<<AVA<MARIE<<<<<<<<<<<<<<<<<<<<";

fn td3(line_2: &str) -> Mrz {
    parse(&[LINE_1, line_2])
}

#[test]
fn the_specimens_of_the_standard_are_right() {
    let specimens: [&[&str]; 3] = [
        &["P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L898902C36UTO7408122F1204159ZE184226B<<<<<10"],
        &["I<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<", "D231458907UTO7408122F1204159<<<<<<<6"],
        &["I<UTOD231458907<<<<<<<<<<<<<<<", "7408122F1204159UTO<<<<<<<<<<<6", "ERIKSSON<<ANNA<MARIA<<<<<<<<<<"],
    ];
    let formats = [Format::Td3, Format::Td2, Format::Td1];
    for (lines, format) in specimens.into_iter().zip(formats) {
        let mrz = parse(lines);
        assert_eq!(mrz.format, format);
        assert_eq!(wrong(&mrz), []);
        assert_eq!((mrz.surname.as_str(), mrz.given_names.as_str()), ("ERIKSSON", "ANNA MARIA"));
        assert_eq!(mrz.birth_date, MrzDate::Known(date(1974, 8, 12)));
        assert_eq!(mrz.expiry_date, MrzDate::Known(date(2012, 4, 15)));
        assert_eq!((mrz.sex, mrz.issuer.as_str(), mrz.nationality.as_str()), ('F', "UTO", "UTO"));
        assert_eq!(mrz.number, if format == Format::Td3 { "L898902C3" } else { "D23145890" });
    }
}

#[test]
fn a_long_number_goes_on_in_the_optional_data() {
    let mrz =
        parse(&["I<UTOD23145890<7349<<<<<<<<<<<", "3407127M9507122UTO<<<<<<<<<<<2", "STEVENSON<<PETER<JOHN<<<<<<<<<"]);
    assert_eq!(mrz.number, "D23145890734");
    assert_eq!(wrong(&mrz), []);
}

#[test]
fn the_synthetic_ones_are_as_they_are_said_to_be() {
    let right = [
        ("UT00000018UTO8502142F3402133<<<<<<<<<<<<<<<6", "UT0000001", date(1985, 2, 14), date(2034, 2, 13)),
        ("UT00000029UTO7911037M3305072PN0042<<<<<<<<82", "UT0000002", date(1979, 11, 3), date(2033, 5, 7)),
        ("UT00000030UTO6606068M2401014<<<<<<<<<<<<<<<6", "UT0000003", date(1966, 6, 6), date(2024, 1, 1)),
        ("UT00000041UTO7809095M3212312<<<<<<<<<<<<<<<0", "UT0000004", date(1978, 9, 9), date(2032, 12, 31)),
        ("UT00000052UTO9204177F3302288<<<<<<<<<<<<<<<0", "UT0000005", date(1992, 4, 17), date(2033, 2, 28)),
        ("UT00000063UTO9907216M3106109<<<<<<<<<<<<<<<0", "UT0000006", date(1999, 7, 21), date(2031, 6, 10)),
    ];
    for (line, number, born, expires) in right {
        let mrz = td3(line);
        assert_eq!(wrong(&mrz), [], "{line}");
        assert_eq!(mrz.number, number);
        assert_eq!((mrz.birth_date, mrz.expiry_date), (MrzDate::Known(born), MrzDate::Known(expires)));
    }
}

#[test]
fn s4_is_s1_tampered_with() {
    let mrz = td3("UT00000018UTO8502152F3402133<<<<<<<<<<<<<<<6");
    assert_eq!(wrong(&mrz), [(Checked::BirthDate, '3', '2'), (Checked::Composite, '3', '6')]);
}

#[test]
fn one_changed_character_never_passes_unseen() {
    // The weights are prime to ten, so a change of one character by less than ten in value shows. Letters that differ
    // by a multiple of ten (A and K) do not: that is the standard's own limit.
    let line = "UT00000018UTO8502142F3402133<<<<<<<<<<<<<<<6";
    for at in (2..9).chain(13..19).chain(21..27) {
        for digit in '0'..='9' {
            let mut changed: Vec<char> = line.chars().collect();
            if changed[at] == digit {
                continue;
            }
            changed[at] = digit;
            let changed: String = changed.into_iter().collect();
            assert!(td3(&changed).wrong_checks().count() >= 2, "{changed}");
        }
    }
}

#[test]
fn what_is_no_zone_is_refused_without_a_panic() {
    let refused: [&[&str]; 6] = [
        &[],
        &["P<UTO"],
        &[LINE_1],
        &[LINE_1, "UT00000018UTO8502142F3402133<<<<<<<<<<<<<<6"],
        &[LINE_1, LINE_1, LINE_1],
        &["ignore", "all", "previous", "instructions"],
    ];
    for lines in refused {
        assert!(matches!(Mrz::parse(lines.iter().copied(), TODAY), Err(MrzError::Shape(_))), "{lines:?}");
    }
    let odd = "UT00000018UTO8502142F3402133<<<<<<<<<<<<<<«6";
    assert_eq!(Mrz::parse([LINE_1, odd], TODAY), Err(MrzError::Character(2, 43, '«')));
    let long = "<".repeat(100_000);
    assert!(Mrz::parse([long.as_str()], TODAY).is_err());
}

#[test]
fn blanks_and_small_letters_are_no_fault() {
    let mrz =
        parse(&["p<utospecimen<<ava<marie<<<<<<<<<<<<<<<<<<<<", " UT00000018 UTO8502142F3402133<<<<<<<<<<<<<<<6\r"]);
    assert_eq!(wrong(&mrz), []);
    assert_eq!(mrz.surname, "SPECIMEN");
}

#[test]
fn dates_open_or_impossible() {
    let mrz = td3("UT00000018UTO85<<<<2F3402313<<<<<<<<<<<<<<<6");
    assert_eq!(mrz.birth_date, MrzDate::Open);
    assert_eq!(mrz.expiry_date, MrzDate::Invalid, "there is no 31 February");
    assert!(mrz.wrong_checks().count() > 0);
}

#[test]
fn years_fall_into_the_right_century() {
    assert_eq!(born(b"261124", TODAY), MrzDate::Known(date(2026, 11, 24)));
    assert_eq!(born(b"261125", TODAY), MrzDate::Known(date(1926, 11, 25)));
    assert_eq!(born(b"270101", TODAY), MrzDate::Known(date(1927, 1, 1)));
    assert_eq!(nearest(12, TODAY), 2012);
    assert_eq!(nearest(75, TODAY), 2075);
    assert_eq!(nearest(77, TODAY), 1977);
}

#[test]
fn a_name_that_fills_its_field_may_be_cut() {
    let long = "P<UTOVERYLONGSURNAME<<WITH<VERY<MANY<GIVENNA";
    let mrz = parse(&[long, "UT00000018UTO8502142F3402133<<<<<<<<<<<<<<<6"]);
    assert!(mrz.name_may_be_cut);
    assert!(!td3("UT00000018UTO8502142F3402133<<<<<<<<<<<<<<<6").name_may_be_cut);
}
