//! Whatever a class file, a manifest or a pom holds, a Java archive with it is read the same twice, and says no more than
//! it has room for.
#![no_main]

use inspect::cataloger::java::{self, Jar};
use libfuzzer_sys::fuzz_target;

const PATHS: [&[u8]; 4] = [
    b"META-INF/MANIFEST.MF",
    b"META-INF/maven/org.a/a/pom.properties",
    b"META-INF/maven/org.b/b/pom.xml",
    b"org/apache/logging/log4j/core/lookup/JndiLookup.class",
];

fuzz_target!(|bytes: &[u8]| {
    let shape = java::shape(bytes);
    assert_eq!(shape, java::shape(bytes));
    if let Ok(shape) = &shape {
        // Each member has eight bytes of its own.
        assert!(shape.members as usize <= bytes.len() / 8, "{} members", shape.members);
        // What stands behind the last method does not matter to it.
        assert_eq!(java::shape(&[bytes, b"behind"].concat()).as_ref(), Ok(shape));
    }
    let read = || {
        let mut jar = Jar::new(b"a-1.0.jar");
        PATHS.iter().for_each(|path| jar.entry(path, 0, bytes.len() as u64));
        PATHS.iter().filter(|path| jar.wants(path)).copied().collect::<Vec<_>>().iter().for_each(|path| {
            jar.content(path, bytes);
        });
        jar.finish()
    };
    let found = read();
    assert_eq!(found, read());
    let said: usize = found.components.iter().map(|found| format!("{found:?}").len()).sum();
    let noted: usize = found.notes.iter().map(String::len).sum();
    assert!(found.components.len() <= PATHS.len() && said + noted <= 8192 + 64 * bytes.len(), "{found:?}");
});
