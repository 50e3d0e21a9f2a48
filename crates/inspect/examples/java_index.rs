//! Makes `src/cataloger/java/index.bin`: `java_index OUT FOLDER…`. In a folder are archives with their
//! `pom.properties`, such as those that Python packages bring along, or a Maven repository as Debian's `lib*-java`
//! packages install it under `usr/share/maven-repo`. Earlier folders are taken first.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use inspect::cataloger::java::{Library, build_index, print_of};

/// Groups, or their beginnings with a point, that are worth knowing.
const GROUPS: &[&str] = &[
    "org.apache.logging.log4j",
    "log4j",
    "ch.qos.reload4j",
    "commons-beanutils",
    "commons-cli",
    "commons-codec",
    "commons-collections",
    "commons-configuration",
    "commons-dbcp",
    "commons-digester",
    "commons-email",
    "commons-exec",
    "commons-fileupload",
    "commons-httpclient",
    "commons-io",
    "commons-jxpath",
    "commons-lang",
    "commons-logging",
    "commons-net",
    "commons-pool",
    "commons-validator",
    "commons-vfs",
    "org.apache.commons",
    "com.google.guava",
    "com.google.code.gson",
    "com.fasterxml.jackson.",
    "org.codehaus.jackson",
    "org.slf4j",
    "ch.qos.logback",
    "org.springframework",
    "io.netty",
    "org.yaml",
    "com.thoughtworks.xstream",
    "org.bouncycastle",
    "org.apache.httpcomponents",
    "org.apache.httpcomponents.",
    "org.apache.velocity",
    "velocity",
    "org.ow2.asm",
    "com.h2database",
    "org.hsqldb",
    "hsqldb",
    "org.postgresql",
    "org.mariadb.jdbc",
    "xerces",
    "xalan",
    "com.google.protobuf",
    "org.eclipse.jetty",
    "org.apache.tomcat",
    "org.apache.tomcat.",
    "org.freemarker",
    "org.apache.shiro",
    "org.quartz-scheduler",
    "org.apache.mina",
    "dom4j",
    "org.dom4j",
    "org.jdom",
    "jdom",
    "org.codehaus.jettison",
    "com.fasterxml.woodstox",
    "org.apache.xmlgraphics",
    "org.apache.pdfbox",
    "org.apache.poi",
    "com.esotericsoftware",
    "com.esotericsoftware.",
    "org.apache.zookeeper",
    "org.jsoup",
    "com.squareup.okhttp3",
    "com.squareup.okio",
    "com.jcraft",
    "ognl",
    "com.mchange",
    "com.zaxxer",
    "org.apache.derby",
    "org.apache.activemq",
    "com.sun.mail",
    "javax.mail",
    "org.hibernate.validator",
    "org.json",
    "com.googlecode.json-simple",
    "net.minidev",
    "com.jayway.jsonpath",
    "com.caucho",
    "org.apache.axis",
    "axis",
    "net.sourceforge.nekohtml",
    "antlr",
    "org.antlr",
    "joda-time",
    "net.bytebuddy",
    "cglib",
    "org.javassist",
    "org.objenesis",
    "com.lmax",
    "org.mvel",
    "org.mozilla",
    "org.codehaus.groovy",
    "org.apache.groovy",
    "org.eclipse.jgit",
    "org.xerial",
    "org.xerial.snappy",
    "org.tukaani",
    "net.java.dev.jna",
    "org.lz4",
    "org.apache.avro",
    "org.apache.thrift",
    "org.apache.curator",
    "org.apache.hadoop",
    "org.apache.santuario",
    "com.rabbitmq",
    "io.dropwizard.metrics",
    "org.apache.lucene",
    "org.apache.xmlbeans",
    "org.glassfish.jersey.core",
    "com.hazelcast",
    "com.nimbusds",
    "bsh",
    "org.apache-extras.beanshell",
    "org.python",
    "io.undertow",
    "com.beust",
    "org.rocksdb",
    "org.apache.sshd",
    "org.msgpack",
    "org.apache.ivy",
    "org.apache.parquet",
    "org.apache.hive",
    "org.apache.orc",
    "org.apache.arrow",
    "com.github.luben",
];

/// Artifacts whose classes are others' too: interfaces of a standard, and what was merged from other libraries.
const SHARED: &[&str] = &[
    "servlet-api",
    "jsp-api",
    "el-api",
    "websocket-api",
    "jaspic-api",
    "annotations-api",
    "parquet-jackson",
    "jackson-module-paranamer",
    "commons-logging-adapters",
    "commons-logging-api",
    "hadoop-annotations",
    "-all",
];

fn wanted(name: &str) -> bool {
    let Some((group, artifact)) = name.split_once(':') else { return false };
    let group_fits = |known: &str| group == known || known.strip_suffix('.').is_some_and(|_| group.starts_with(known));
    GROUPS.iter().any(|known| group_fits(known))
        && !SHARED.iter().any(|shared| artifact.ends_with(shared))
        && !artifact.contains("-shaded-")
        && !artifact.contains("parent")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let out = arguments.next().ok_or("java_index OUT FOLDER…")?;
    let mut libraries = Vec::new();
    let mut seen = BTreeSet::new();
    for folder in arguments {
        let mut jars = Vec::new();
        walk(Path::new(&folder), &mut jars);
        jars.sort();
        for jar in jars {
            let Some(library) = library(&jar).filter(|library| wanted(&library.name)) else { continue };
            // One archive often stands under several names of the same folder.
            if seen.insert((library.name.clone(), library.version.clone(), folder.clone())) {
                libraries.push(library);
            }
        }
    }
    let index = build_index(&libraries);
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{} archives, {} bytes", libraries.len(), index.len())?;
    std::fs::write(out, index)?;
    Ok(())
}

fn walk(folder: &Path, jars: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, jars);
        } else if path.extension().is_some_and(|extension| extension == "jar") {
            jars.push(path);
        }
    }
}

/// A library with the names that its place in a Maven repository gives it, or its only pom.
fn library(path: &Path) -> Option<Library> {
    let mut archive = zip::ZipArchive::new(File::open(path).ok()?).ok()?;
    let mut classes = Vec::new();
    let mut poms = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).ok()?;
        let name = entry.name().ok()?.into_owned();
        if !name.ends_with(".class") && !name.ends_with("/pom.properties") {
            continue;
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).ok()?;
        if name.ends_with(".class") {
            classes.extend(print_of(name.as_bytes(), entry.crc32(), &bytes));
        } else {
            poms.push(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    let (name, version) = by_repository(path).or_else(|| by_pom(&poms, path.file_stem()?.to_str()?))?;
    Some(Library { name, version, classes })
}

fn by_repository(path: &Path) -> Option<(String, String)> {
    let text = path.to_str()?;
    let (_, inner) = text.split_once("/maven-repo/")?;
    let mut parts: Vec<&str> = inner.split('/').collect();
    let file = parts.pop()?;
    let (version, artifact) = (parts.pop()?, parts.pop()?);
    // Debian has libraries under versions such as `debian` and `2.x` too; an archive with more in its name is a classifier's.
    (version != "debian" && !version.ends_with('x') && file == format!("{artifact}-{version}.jar"))
        .then(|| (format!("{}:{artifact}", parts.join(".")), version.to_owned()))
}

/// The only pom, where the archive is named after its artifact: others bring along that of what they merged.
fn by_pom(poms: &[String], stem: &str) -> Option<(String, String)> {
    let [pom] = poms else { return None };
    let value = |key: &str| pom.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::trim);
    let (group, artifact, version) = (value("groupId")?, value("artifactId")?, value("version")?);
    stem.starts_with(&format!("{artifact}-{version}")).then(|| (format!("{group}:{artifact}"), version.to_owned()))
}
