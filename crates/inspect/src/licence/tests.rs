//! Tests of the grammar, the names and the policy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

fn canonical(text: &str) -> String {
    Expression::parse(text).unwrap().spdx().unwrap()
}

#[test]
fn the_tables_are_sorted_and_found() {
    for table in [list::LICENCES, list::DEPRECATED, list::EXCEPTIONS] {
        assert!(table.windows(2).all(|pair| pair[0].to_lowercase() < pair[1].to_lowercase()));
    }
    for id in list::LICENCES.iter().chain(list::DEPRECATED) {
        assert_eq!(listed(&id.to_uppercase()), Some(*id));
        if !is_deprecated(id) {
            assert_eq!(canonical(&id.to_lowercase()), *id);
        }
    }
    // Of these two the list says nothing else.
    for id in list::DEPRECATED.iter().filter(|id| !["Net-SNMP", "Nunit"].contains(id)) {
        let terms = canonical(&id.to_lowercase());
        assert!(!terms.split(" WITH ").any(is_deprecated), "{id} is {terms}");
        assert!(Expression::parse(&terms).is_ok(), "{id} is {terms}");
    }
    assert!(is_deprecated("gpl-2.0") && !is_deprecated("GPL-2.0-only"));
    assert_eq!(listed_exception("llvm-EXCEPTION"), Some("LLVM-exception"));
}

#[test]
fn the_grammar() {
    for (text, expected) in [
        ("mit", "MIT"),
        ("MIT or Apache-2.0 and isc", "MIT OR Apache-2.0 AND ISC"),
        ("(MIT or Apache-2.0) and isc", "(MIT OR Apache-2.0) AND ISC"),
        ("((((MIT))))", "MIT"),
        (
            "GPL-2.0+ WITH classpath-exception-2.0 OR MPL-1.1+",
            "GPL-2.0-or-later WITH Classpath-exception-2.0 OR MPL-1.1+",
        ),
        (
            "GPL-3.0 or LGPL-2.1+ or GPL-2.0-with-GCC-exception",
            "GPL-3.0-only OR LGPL-2.1-or-later OR GPL-2.0-only WITH GCC-exception-2.0",
        ),
        ("DocumentRef-x:LicenseRef-a.b-C AND LicenseRef-1", "DocumentRef-x:LicenseRef-a.b-C AND LicenseRef-1"),
        ("Apache-2.0 WITH AdditionRef-ours", "Apache-2.0 WITH AdditionRef-ours"),
    ] {
        assert_eq!(canonical(text), expected);
        assert_eq!(Expression::parse(text).unwrap().to_string(), text);
    }
    for text in [
        "",
        " ",
        "MIT AND",
        "OR MIT",
        "(MIT",
        "MIT)",
        "()",
        "MIT ISC",
        "MIT WITH MIT",
        "MIT WITH",
        "Foo-1.0",
        "LicenseRef-",
        "(MIT) WITH LLVM-exception",
        "MIT ++",
        "LicenseRef-a_b",
        "GPL-2.0-with-GCC-exception WITH GCC-exception-2.0",
        "MIT/ISC",
    ] {
        assert!(Expression::parse(text).is_err(), "{text}");
    }
    let Err(error) = Expression::parse("MIT OR Fooish-1.0") else { panic!("it is no id") };
    assert_eq!(error.to_string(), "\"Fooish-1.0\" at byte 7 is no licence id of the SPDX list");
    let nested = |depth: usize| format!("{}MIT{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Expression::parse(&nested(NESTING_MAX)).is_ok());
    assert_eq!(Expression::parse(&nested(NESTING_MAX + 1)), Err(ExpressionError::TooLong));
    assert_eq!(Expression::parse(&["MIT"; TERMS_MAX + 1].join(" OR ")), Err(ExpressionError::TooLong));
}

#[test]
fn names_that_people_write() {
    for (text, expected) in [
        ("Apache 2.0", "Apache-2.0"),
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("Apache License 2.0", "Apache-2.0"),
        ("APACHE2", "Apache-2.0"),
        ("BSD-3-clause", "BSD-3-Clause"),
        ("BSD 3-Clause License", "BSD-3-Clause"),
        ("3-Clause BSD License", ""),
        ("The MIT License (MIT)", "MIT"),
        ("MIT/X11", "MIT"),
        ("Expat", "MIT"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("GPL-2", "GPL-2.0-only"),
        ("GPLv3", "GPL-3.0-only"),
        ("GPLv2+", "GPL-2.0-or-later"),
        ("GPL v3 or later", "GPL-3.0-or-later"),
        ("GNU GPL", "GPL-1.0-or-later"),
        ("LGPL-2.1+", "LGPL-2.1-or-later"),
        ("LGPL-2+", "LGPL-2.0-or-later"),
        ("AGPLv3", "AGPL-3.0-only"),
        ("GFDL-1.3+", "GFDL-1.3-or-later"),
        ("FDL 1.3", ""),
        ("GFDL-NIV-1.3", "GFDL-1.3-no-invariants-only"),
        ("Perl", "GPL-1.0-or-later OR Artistic-1.0-Perl"),
        ("License :: OSI Approved :: MIT License", "MIT"),
        ("License :: OSI Approved :: Apache Software License", "Apache-2.0"),
        ("License :: OSI Approved :: GNU General Public License v2 or later (GPLv2+)", "GPL-2.0-or-later"),
        ("License :: OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)", "LGPL-3.0-only"),
        ("License :: OSI Approved :: GNU Library or Lesser General Public License (LGPL)", "LGPL-2.0-or-later"),
        ("License :: OSI Approved :: GNU Affero General Public License v3", "AGPL-3.0-only"),
        ("License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)", "MPL-2.0"),
        ("License :: OSI Approved :: ISC License (ISCL)", "ISC"),
        ("License :: OSI Approved :: Python Software Foundation License", "PSF-2.0"),
        ("License :: OSI Approved :: The Unlicense (Unlicense)", "Unlicense"),
        ("License :: CC0 1.0 Universal (CC0 1.0) Public Domain Dedication", ""),
        ("GPL-2+ or Artistic-2.0", "GPL-2.0-or-later OR Artistic-2.0"),
        ("MIT/Apache-2.0", "MIT OR Apache-2.0"),
        ("BSD-3-clause, and GPL-2+", "BSD-3-Clause AND GPL-2.0-or-later"),
        ("GPLv2 or later with Classpath exception", "GPL-2.0-or-later WITH Classpath-exception-2.0"),
        ("Apache 2.0 and (MIT or Zlib/libpng)", "Apache-2.0 AND (MIT OR Zlib)"),
        // Debian's, as DEP-5 says: a comma before an operator lets it bind less.
        ("GPL-2+ or Artistic-2.0, and BSD-3-clause", "(GPL-2.0-or-later OR Artistic-2.0) AND BSD-3-Clause"),
        ("GPL-2+ or Artistic-2.0 and BSD-3-clause", "GPL-2.0-or-later OR Artistic-2.0 AND BSD-3-Clause"),
        ("Expat, and GPL-1+ or Artistic", "MIT AND (GPL-1.0-or-later OR Artistic-1.0)"),
        ("Apache-2.0, and Expat or 0BSD, and MPL-2.0", "Apache-2.0 AND (MIT OR 0BSD) AND MPL-2.0"),
        ("Apache-2.0, Expat, or ISC", "Apache-2.0 AND MIT OR ISC"),
        ("GPL-2 with Linux-syscall-note exception or MIT", "GPL-2.0-only WITH Linux-syscall-note OR MIT"),
        ("GPL-3+ with GCC-Runtime-3.1 exception", "GPL-3.0-or-later WITH GCC-exception-3.1"),
        ("BSD-3-clause and/or GPL-3+", "BSD-3-Clause AND GPL-3.0-or-later"),
        ("BSD-2-clause-NetBSD", "BSD-2-Clause"),
        ("GPL-2+ with OpenSSL exception", ""),
        ("BSD-3-clause~Intel or GPL-2", ""),
        // Fedora's.
        ("GPL+ or Artistic", "GPL-1.0-or-later OR Artistic-1.0"),
        (
            "(GPLv3+ or LGPLv2+) and ASL 2.0 and MPLv1.1",
            "(GPL-3.0-or-later OR LGPL-2.0-or-later) AND Apache-2.0 AND MPL-1.1",
        ),
        ("OFL and zlib and ZPLv2.1", "OFL-1.1 AND Zlib AND ZPL-2.1"),
        ("GPLv2+ with exceptions", ""),
        ("BSD with advertising", ""),
        // Maven's.
        ("http://www.apache.org/licenses/LICENSE-2.0.txt", "Apache-2.0"),
        ("https://opensource.org/licenses/BSD-3-Clause", "BSD-3-Clause"),
        ("https://www.eclipse.org/legal/epl-v20.html", "EPL-2.0"),
        ("https://code.invalid/LICENSE", ""),
        ("BSD License", ""),
        ("public-domain", ""),
        ("SEE LICENSE IN LICENSE.txt", ""),
        ("Permission is hereby granted, free of charge, to any person and all", ""),
    ] {
        let read = Expression::read(text);
        assert_eq!((read.to_string().as_str(), read.is_spdx()), (text, Expression::parse(text).is_ok()));
        assert_eq!(read.spdx().unwrap_or_default(), expected, "{text}");
        if expected.is_empty() {
            assert!(!read.is_understood(), "{text}");
        }
    }
    // What is not understood hides nothing that is.
    let names = |text: &str| Expression::read(text).names();
    assert_eq!(names("GPL-2+ with OpenSSL exception"), ["GPL-2.0-or-later"]);
    assert_eq!(names("BSD-3-clause~Intel or GPL-2"), ["BSD-3-clause~Intel", "GPL-2.0-only"]);
    assert_eq!(names("LGPL-2.1+, and MPL-1.1+"), ["LGPL-2.1-or-later", "MPL-1.1+"]);
    let partly = Expression::read("MIT AND Custom-Thing");
    assert_eq!(partly.terms()[1].licence, Licence::Unknown("Custom-Thing".to_owned()));
}

const POLICY: &str = r#"
allow = ["MIT", "Apache 2.0", "BSD-*", "GPL-2.0-only WITH Classpath-exception-2.0", "LGPL-*", "Our own terms", "LicenseRef-acme-*"]
warn = ["MPL-2.0"]
deny = ["GPL-*", "AGPL-*", "BSD-4-Clause", "GFDL-1.3-or-later"]
default = "warn"
unknown = "deny"
"#;

#[test]
fn a_policy_judges() {
    use Verdict::{Allow, Deny, Warn};
    let policy = Policy::parse(POLICY).unwrap();
    for (text, expected) in [
        ("MIT", Allow),
        ("Apache-2.0", Allow),
        ("BSD-3-Clause", Allow),
        ("BSD-4-Clause", Deny),
        ("ISC", Warn),
        ("GPL-2.0-only", Deny),
        ("GPLv3", Deny),
        ("GPL-2.0", Deny),
        ("LGPL-2.1+", Allow),
        ("GFDL-1.3+", Deny),
        ("GFDL-1.3", Warn),
        ("MIT OR GPL-3.0-only", Allow),
        ("MIT AND GPL-3.0-only", Deny),
        ("MIT AND MPL-2.0", Warn),
        ("MIT AND (GPL-3.0-only OR ISC)", Warn),
        ("GPL-2.0-only WITH Classpath-exception-2.0", Allow),
        ("GPL-2.0-with-classpath-exception", Allow),
        ("GPL-2.0-only WITH GCC-exception-2.0", Deny),
        ("MIT WITH LLVM-exception", Allow),
        ("MIT with Commons Clause", Deny),
        ("Our Own Terms", Allow),
        ("LicenseRef-acme-1", Allow),
        ("LicenseRef-other", Warn),
        ("BSD License", Deny),
        ("MIT AND something", Deny),
        ("MIT OR something", Allow),
        ("", Deny),
    ] {
        assert_eq!(policy.judge(&Expression::read(text)), expected, "{text}");
    }
    let all = |texts: &[&str]| policy.judge_all(&texts.iter().map(|text| Expression::read(text)).collect::<Vec<_>>());
    assert_eq!(all(&["BSD-3-Clause", "License :: OSI Approved :: BSD License"]), Allow);
    assert_eq!(all(&["MIT", "License :: OSI Approved :: BSD License"]), Deny);
    assert_eq!(all(&["MIT", "License :: OSI Approved"]), Allow);
    assert_eq!(all(&["License :: OSI Approved"]), Deny);
    assert_eq!(all(&[]), Deny);
    let lax = Policy::parse("default = \"allow\"").unwrap();
    assert_eq!((lax.judge(&Expression::read("ISC")), lax.judge(&Expression::read("huh"))), (Allow, Warn));
    let all = Policy::parse("allow = [\"*\"]").unwrap();
    assert_eq!((all.judge(&Expression::read("ISC")), all.judge(&Expression::read("huh"))), (Allow, Warn));
}

#[test]
fn a_policy_with_a_fault_says_where_and_what_else() {
    for (text, expected) in [
        ("\nalow = []", "line 2: unknown key `alow`. Did you mean `allow`?"),
        ("zzz = 1", "line 1: unknown key `zzz`. Known here: allow, warn, deny, default, unknown."),
        ("default = \"denny\"", "line 1: the verdict must be one of allow, warn, deny. Did you mean `deny`?"),
        ("deny = [\n \"Apache-2.O\"]", "line 2: `Apache-2.O` is no licence id. Did you mean `Apache-2.0`?"),
        (
            "deny = [\"GLP-*\"]",
            "line 1: the pattern `GLP-*` matches no licence of the SPDX list. Write an id, a pattern such as \"GPL-*\", or the text that stands there.",
        ),
        (
            "deny = [\"MIT OR ISC\"]",
            "line 1: the rule `MIT OR ISC` is an expression of several licences. Give each its own rule.",
        ),
    ] {
        assert_eq!(Policy::parse(text).unwrap_err().to_string(), expected);
    }
    assert!(
        Policy::parse("deny = 3").is_err()
            && Policy::parse("deny = [3]").is_err()
            && Policy::parse("deny = [").is_err()
    );
}

fn expressions() -> impl Strategy<Value = (String, u32)> {
    let leaf =
        prop_oneof![Just(("MIT".to_owned(), 0)), Just(("MPL-2.0".to_owned(), 1)), Just(("GPL-3.0-only".to_owned(), 2))];
    leaf.prop_recursive(6, 40, 4, |inner| {
        (any::<bool>(), prop::collection::vec(inner, 2..4)).prop_map(|(all, nodes)| {
            let text = nodes.iter().map(|(text, _)| format!("({text})")).collect::<Vec<_>>();
            let verdicts = nodes.iter().map(|(_, verdict)| *verdict);
            match all {
                true => (text.join(" and "), verdicts.max().unwrap()),
                false => (text.join(" OR "), verdicts.min().unwrap()),
            }
        })
    })
}

proptest! {
    #[test]
    fn or_takes_the_best_and_and_the_worst((text, expected) in expressions()) {
        let read = Expression::parse(&text).unwrap();
        let verdict = [Verdict::Allow, Verdict::Warn, Verdict::Deny][expected as usize];
        let policy = Policy::parse(POLICY).unwrap();
        prop_assert_eq!(policy.judge(&read), verdict);
        prop_assert_eq!(read.to_string(), text);
        // The canonical form means the same.
        let again = Expression::parse(&read.spdx().unwrap()).unwrap();
        prop_assert_eq!(policy.judge(&again), verdict);
    }

    #[test]
    fn whatever_stands_there_is_kept_and_never_allowed_by_chance(text in "[ a-zA-Z0-9.+()/,-]{0,60}|(MIT|OR|AND|WITH|\\(|\\)| |GPL|v|2|or later|with|é|::|,|/){0,20}") {
        let read = Expression::read(&text);
        prop_assert_eq!(read.to_string(), text);
        let none = Policy::parse("default = \"warn\"\nunknown = \"deny\"").unwrap();
        prop_assert!(none.judge(&read) >= Verdict::Warn);
        prop_assert!(read.is_understood() || !read.is_spdx());
    }
}
