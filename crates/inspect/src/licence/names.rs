//! Names that people give to licences, as SPDX: Debian's short names (DEP-5), those of Fedora before it took SPDX's,
//! Python's classifiers, npm's old forms, and common spellings.
//!
//! A name that may mean several licences ("BSD") is not in the table; a name of the GNU family without a version means any
//! version, as those licences say themselves.

/// Normalised names (see [`normal`]) and what they mean; sorted.
#[rustfmt::skip]
const NAMES: &[(&str, &str)] = &[
    ("0 bsd", "0BSD"),
    ("academic free 3", "AFL-3.0"),
    ("affero gpl 3", "AGPL-3.0-only"),
    ("afl 2.1", "AFL-2.1"),
    ("afl 3", "AFL-3.0"),
    ("apache 1", "Apache-1.0"),
    ("apache 1.1", "Apache-1.1"),
    ("apache 2", "Apache-2.0"),
    ("apache public 2", "Apache-2.0"),
    ("apache software", "Apache-2.0"),
    ("apache software 1.1", "Apache-1.1"),
    ("apache software 2", "Apache-2.0"),
    ("artistic", "Artistic-1.0"),
    ("artistic 1", "Artistic-1.0"),
    ("artistic 2", "Artistic-2.0"),
    ("artistic clarified", "ClArtistic"),
    ("asl 1.1", "Apache-1.1"),
    ("asl 2", "Apache-2.0"),
    ("beerware", "Beerware"),
    ("blue oak model", "BlueOak-1.0.0"),
    ("blue oak model 1", "BlueOak-1.0.0"),
    ("boost", "BSL-1.0"),
    ("boost software", "BSL-1.0"),
    ("boost software 1", "BSL-1.0"),
    ("bsd 0 clause", "0BSD"),
    ("bsd 2", "BSD-2-Clause"),
    ("bsd 2 clause", "BSD-2-Clause"),
    ("bsd 2 clause simplified", "BSD-2-Clause"),
    ("bsd 3", "BSD-3-Clause"),
    ("bsd 3 clause", "BSD-3-Clause"),
    ("bsd 3 clause new or revised", "BSD-3-Clause"),
    ("bsd 4 clause", "BSD-4-Clause"),
    ("bsd new", "BSD-3-Clause"),
    ("bsd revised", "BSD-3-Clause"),
    ("bsd simplified", "BSD-2-Clause"),
    ("bsl 1", "BSL-1.0"),
    ("cc 0", "CC0-1.0"),
    ("cc 0 1", "CC0-1.0"),
    ("cc 0 1 universal", "CC0-1.0"),
    ("cc 0 1 universal public domain dedication", "CC0-1.0"),
    ("cc by 2.5", "CC-BY-2.5"),
    ("cc by 3", "CC-BY-3.0"),
    ("cc by 4", "CC-BY-4.0"),
    ("cc by sa 2.5", "CC-BY-SA-2.5"),
    ("cc by sa 3", "CC-BY-SA-3.0"),
    ("cc by sa 4", "CC-BY-SA-4.0"),
    ("cddl", "CDDL-1.0"),
    ("cddl 1", "CDDL-1.0"),
    ("cddl 1.1", "CDDL-1.1"),
    ("cecill 2.1", "CECILL-2.1"),
    ("cecill b free software agreement", "CECILL-B"),
    ("cecill c free software agreement", "CECILL-C"),
    ("common development and distribution", "CDDL-1.0"),
    ("common public", "CPL-1.0"),
    ("cpl", "CPL-1.0"),
    ("cpl 1", "CPL-1.0"),
    ("creative commons attribution 4", "CC-BY-4.0"),
    ("creative commons zero 1 universal", "CC0-1.0"),
    ("curl", "curl"),
    ("eclipse distribution 1", "BSD-3-Clause"),
    ("eclipse public 1", "EPL-1.0"),
    ("eclipse public 2", "EPL-2.0"),
    ("edl 1", "BSD-3-Clause"),
    ("efl 1", "EFL-1.0"),
    ("efl 2", "EFL-2.0"),
    ("epl 1", "EPL-1.0"),
    ("epl 2", "EPL-2.0"),
    ("eupl 1.1", "EUPL-1.1"),
    ("eupl 1.2", "EUPL-1.2"),
    ("european union public 1.1", "EUPL-1.1"),
    ("european union public 1.2", "EUPL-1.2"),
    ("expat", "MIT"),
    ("expat mit", "MIT"),
    ("freebsd", "BSD-2-Clause"),
    ("gfdl", "GFDL-1.1-or-later"),
    ("gfdl 1.2", "GFDL-1.2-only"),
    ("gfdl 1.2+", "GFDL-1.2-or-later"),
    ("gfdl 1.3", "GFDL-1.3-only"),
    ("gfdl 1.3+", "GFDL-1.3-or-later"),
    ("gfdl niv", "GFDL-1.1-no-invariants-or-later"),
    ("gfdl niv 1.2", "GFDL-1.2-no-invariants-only"),
    ("gfdl niv 1.2+", "GFDL-1.2-no-invariants-or-later"),
    ("gfdl niv 1.3", "GFDL-1.3-no-invariants-only"),
    ("gfdl niv 1.3+", "GFDL-1.3-no-invariants-or-later"),
    ("go", "BSD-3-Clause"),
    ("gpl+", "GPL-1.0-or-later"),
    ("historical permission notice and disclaimer", "HPND"),
    ("hpnd", "HPND"),
    ("isc", "ISC"),
    ("iscl", "ISC"),
    ("lgpl+", "LGPL-2.0-or-later"),
    ("lppl 1", "LPPL-1.0"),
    ("lppl 1.1", "LPPL-1.1"),
    ("lppl 1.2", "LPPL-1.2"),
    ("lppl 1.3 c", "LPPL-1.3c"),
    ("mit", "MIT"),
    ("mit expat", "MIT"),
    ("mit no attribution", "MIT-0"),
    ("mit x11", "MIT"),
    ("modified bsd", "BSD-3-Clause"),
    ("mozilla public 1", "MPL-1.0"),
    ("mozilla public 1.1", "MPL-1.1"),
    ("mozilla public 2", "MPL-2.0"),
    ("mpl 1", "MPL-1.0"),
    ("mpl 1.1", "MPL-1.1"),
    ("mpl 2", "MPL-2.0"),
    ("ms pl", "MS-PL"),
    ("ms rl", "MS-RL"),
    ("mulan permissive software 2", "MulanPSL-2.0"),
    ("new bsd", "BSD-3-Clause"),
    ("ofl", "OFL-1.1"),
    ("openldap 2.8", "OLDAP-2.8"),
    ("openssl", "OpenSSL"),
    ("osl 3", "OSL-3.0"),
    ("perl", "GPL-1.0-or-later OR Artistic-1.0-Perl"),
    ("perl 5", "GPL-1.0-or-later OR Artistic-1.0-Perl"),
    ("php 3.01", "PHP-3.01"),
    ("postgresql", "PostgreSQL"),
    ("psf", "PSF-2.0"),
    ("psf 2", "PSF-2.0"),
    ("psfl", "PSF-2.0"),
    ("python", "Python-2.0"),
    ("python 2", "Python-2.0"),
    ("python cnri", "CNRI-Python"),
    ("python software foundation", "PSF-2.0"),
    ("python software foundation 2", "PSF-2.0"),
    ("qpl", "QPL-1.0"),
    ("qpl 1", "QPL-1.0"),
    ("qt public", "QPL-1.0"),
    ("revised bsd", "BSD-3-Clause"),
    ("ruby", "Ruby"),
    ("ruby s", "Ruby"),
    ("rubys", "Ruby"),
    ("sil 1.1", "OFL-1.1"),
    ("simplified bsd", "BSD-2-Clause"),
    ("sleepycat", "Sleepycat"),
    ("unicode 3", "Unicode-3.0"),
    ("universal permissive", "UPL-1.0"),
    ("university of illinois ncsa open source", "NCSA"),
    ("unlicense", "Unlicense"),
    ("upl 1", "UPL-1.0"),
    ("vim", "Vim"),
    ("w 3 c", "W3C"),
    ("w3c", "W3C"),
    ("w3c software", "W3C"),
    ("wtfpl", "WTFPL"),
    ("wtfpl 2", "WTFPL"),
    ("zlib", "Zlib"),
    ("zlib libpng", "Zlib"),
    ("zope 1.1", "ZPL-1.1"),
    ("zope 2", "ZPL-2.0"),
    ("zope 2.1", "ZPL-2.1"),
    ("zope public 2.1", "ZPL-2.1"),
    ("zpl 1.1", "ZPL-1.1"),
    ("zpl 2", "ZPL-2.0"),
    ("zpl 2.1", "ZPL-2.1"),
];

/// Names of exceptions, normalised likewise, "exception" left out; sorted.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("autoconf", "Autoconf-exception-generic"),
    ("bison", "Bison-exception-2.2"),
    ("bison 2.2", "Bison-exception-2.2"),
    ("classpath", "Classpath-exception-2.0"),
    ("font", "Font-exception-2.0"),
    ("gcc runtime", "GCC-exception-3.1"),
    ("gcc runtime 3.1", "GCC-exception-3.1"),
    ("gcc runtime library", "GCC-exception-3.1"),
    ("gcc runtime library 3.1", "GCC-exception-3.1"),
    ("libtool", "Libtool-exception"),
    ("linux syscall note", "Linux-syscall-note"),
    ("llvm", "LLVM-exception"),
    ("texinfo", "Texinfo-exception"),
];

/// Names that leave open which licence of a kind it is, and how the ids of that kind begin.
const VAGUE: &[(&str, &str)] = &[
    ("afl", "AFL-"),
    ("apache", "Apache-"),
    ("bsd", "BSD-"),
    ("bsd style", "BSD-"),
    ("eclipse public", "EPL-"),
    ("mozilla public", "MPL-"),
    ("mpl", "MPL-"),
    ("osi approved", ""),
    ("zope public", "ZPL-"),
];

/// Names of the GNU licences, and how their ids begin.
const GNU: &[(&str, Gnu)] = &[
    ("affero general public", Gnu { id: "AGPL", first: "3.0" }),
    ("agpl", Gnu { id: "AGPL", first: "3.0" }),
    ("general public", Gnu { id: "GPL", first: "1.0" }),
    ("gpl", Gnu { id: "GPL", first: "1.0" }),
    ("lesser general public", Gnu { id: "LGPL", first: "2.1" }),
    ("lesser gpl", Gnu { id: "LGPL", first: "2.1" }),
    ("lgpl", Gnu { id: "LGPL", first: "2.0" }),
    ("library general public", Gnu { id: "LGPL", first: "2.0" }),
    ("library or lesser general public", Gnu { id: "LGPL", first: "2.0" }),
];

struct Gnu {
    id: &'static str,
    /// The version from which on any is meant where none is said.
    first: &'static str,
}

/// Names that versions are written against without a space.
const FAMILIES: &[&str] = &[
    "afl", "agpl", "apache", "artistic", "asl", "bsd", "bsl", "cc", "cddl", "cpl", "efl", "epl", "eupl", "fdl", "gfdl",
    "gpl", "lgpl", "lppl", "mpl", "osl", "psf", "python", "qpl", "upl", "wtfpl", "zpl",
];

/// Words that say nothing.
const EMPTY: &[&str] = &["the", "license", "licence", "licenses", "version", "ver", "v"];

/// The longest name that is looked up, in bytes.
const NAME_BYTES_MAX: usize = 200;

/// The SPDX expression that a name stands for.
pub(super) fn find(name: &str) -> Option<&'static str> {
    let name = normal(name)?;
    NAMES
        .binary_search_by(|(known, _)| (*known).cmp(&name))
        .ok()
        .and_then(|place| NAMES.get(place).map(|(_, spdx)| *spdx))
        .or_else(|| gnu(&name))
}

/// The SPDX id of an exception.
pub(super) fn find_exception(name: &str) -> Option<&'static str> {
    let name = normal(name)?;
    let name = name.strip_suffix(" exception")?;
    EXCEPTIONS.iter().find(|(known, _)| *known == name).map(|(_, id)| *id)
}

/// How the ids begin of the licences that a vague name may mean; empty where it may mean any.
pub(super) fn vague(name: &str) -> Option<&'static str> {
    let name = normal(name)?;
    VAGUE.iter().find(|(known, _)| *known == name).map(|(_, start)| *start)
}

fn gnu(name: &str) -> Option<&'static str> {
    let name = name.strip_prefix("gnu ").unwrap_or(name);
    let (kind, Gnu { id, first }) = GNU
        .iter()
        .filter(|(known, _)| name.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')))
        .max_by_key(|(known, _)| known.len())?;
    let rest = name.get(kind.len()..)?.trim_start();
    let rest = rest.strip_suffix(" only").unwrap_or(rest);
    let (number, later) = match rest.strip_suffix('+') {
        Some(number) => (number, true),
        None => (rest, false),
    };
    let id = match number {
        "" => format!("{id}-{first}-or-later"),
        _ => {
            let number = if number.contains('.') { number.to_owned() } else { format!("{number}.0") };
            format!("{id}-{number}-{}", if later { "or-later" } else { "only" })
        }
    };
    super::listed(&id)
}

/// Lower case; words and numbers parted by single spaces, `.0` at the end of a version left out, "or later" as `+`.
fn normal(name: &str) -> Option<String> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    // Classifiers: only the last part names the licence.
    let name = if name.trim_start().starts_with("License ::") { name.rsplit("::").next()? } else { name }.trim();
    // "(GPLv3)" after the whole name says it once more.
    let name = match name.rsplit_once(" (") {
        Some((before, abbreviation)) if abbreviation.ends_with(')') => before,
        _ => name,
    };
    let mut words: Vec<String> = Vec::new();
    for word in name.split(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '+') {
        push(&mut words, word.trim_matches('.').to_ascii_lowercase());
    }
    let mut text = words.join(" ");
    for later in [" or later", " or newer", " or above", " or any later", " or greater"] {
        if let Some(before) = text.strip_suffix(later) {
            let number = before.ends_with(|c: char| c.is_ascii_digit());
            text = format!("{before}{}", if number { "+" } else { "" });
        }
    }
    Some(text)
}

/// Adds a word, parted from its version: `gplv3+` is `gpl 3+`.
fn push(words: &mut Vec<String>, word: String) {
    if word.is_empty() || EMPTY.contains(&word.as_str()) {
        return;
    }
    let digits = word.find(|c: char| c.is_ascii_digit());
    let split = digits.and_then(|at| word.split_at_checked(at)).filter(|(before, _)| !before.is_empty());
    if let Some((before, number)) = split {
        let family = before.strip_suffix('v').filter(|family| FAMILIES.contains(family)).unwrap_or(before);
        if family == "v" || FAMILIES.contains(&family) {
            if family != "v" {
                words.push(family.to_owned());
            }
            return push(words, number.to_owned());
        }
    }
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        let (number, plus) = word.strip_suffix('+').map_or((word.as_str(), ""), |number| (number, "+"));
        let mut number = number;
        while let Some(shorter) = number.strip_suffix(".0") {
            number = shorter;
        }
        // `2clause` and its like.
        return match number.strip_suffix("clause") {
            Some(count) if !count.is_empty() => words.extend([count.to_owned(), "clause".to_owned()]),
            _ => words.push(format!("{number}{plus}")),
        };
    }
    words.push(word);
}
