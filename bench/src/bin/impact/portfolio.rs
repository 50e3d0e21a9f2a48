//! A portfolio as real ones are: images on a few base images, most components from shared layers, a few of their own.

use std::collections::BTreeSet;

use inspect::component::{Component, Ecosystem, Evidence, Source};
use inspect::document::{Contents, Details, Found, Image, Layer, Licence, OperatingSystem, Place, Tool};
use inspect::finding::Record;
use oci::{Digest, RepositoryName};

/// Components of one image.
pub(crate) const COMPONENTS: usize = 800;
/// Components that a distribution's layer brings.
const OF_SYSTEM: usize = 450;
/// Components that a layer of a language's runtime and frameworks brings.
const OF_FRAMEWORK: usize = 300;
/// Distributions, in several states of being up to date.
const SYSTEMS: usize = 20;
/// Layers of frameworks.
const FRAMEWORKS: usize = 200;
/// Components of an image's own that nobody else has chosen deliberately.
const RARE: usize = 13;
/// Images that are in one repository.
const IN_REPOSITORY: usize = 50;

/// Names that advisories speak of, so that what is compared is what is compared in real life.
pub(crate) struct Names {
    of_system: Vec<String>,
    of_language: Vec<(Ecosystem, String)>,
}

impl Names {
    pub(crate) fn of(records: &[Record]) -> anyhow::Result<Self> {
        let (mut of_system, mut of_language) = (BTreeSet::new(), BTreeSet::new());
        for record in records {
            for (ecosystem, name) in record.advisory()?.names() {
                match ecosystem {
                    Ecosystem::Rpm => drop(of_system.insert(name)),
                    Ecosystem::Generic => {}
                    _ => drop(of_language.insert((ecosystem, name))),
                }
            }
        }
        Ok(Self { of_system: of_system.into_iter().collect(), of_language: of_language.into_iter().collect() })
    }
}

/// The images.
pub(crate) struct Portfolio {
    names: Names,
    pub(crate) images: usize,
    /// Components of the images' own layers.
    pool: usize,
}

/// An image as it is pushed.
pub(crate) struct Pushed {
    pub(crate) repository: RepositoryName,
    pub(crate) tag: String,
    pub(crate) digest: Digest,
    pub(crate) manifest: String,
}

/// Numbers that look like chance, and are the same in every run.
fn mixed(seed: u64) -> u64 {
    let mut state = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}

impl Portfolio {
    /// So many images, with 20 distinct components for each.
    pub(crate) fn new(names: Names, images: usize) -> Self {
        let shared = SYSTEMS * OF_SYSTEM + FRAMEWORKS * OF_FRAMEWORK;
        Self { names, images, pool: (images * 20).saturating_sub(shared).max(images * RARE) }
    }

    /// How many components there are.
    pub(crate) fn distinct(&self) -> usize {
        SYSTEMS * OF_SYSTEM + FRAMEWORKS * OF_FRAMEWORK + self.pool
    }

    fn of_system(&self, system: usize, at: usize) -> Component {
        let names = &self.names.of_system;
        let name = names.get(mixed(at as u64) as usize % names.len().max(1)).cloned().unwrap_or_default();
        // States of one release have most versions in common; here each has its own, which is harder.
        let version = format!("{}.{}-{}.el9", mixed(at as u64) % 9, mixed(at as u64) % 30, system + 1);
        Component {
            source: Some(Source { name: name.clone(), version: version.clone() }),
            ..component(Ecosystem::Rpm, &format!("{name}-{at}"), &version)
        }
    }

    fn of_language(&self, number: usize) -> Component {
        let names = &self.names.of_language;
        let chance = mixed(number as u64);
        // Every third is one that some advisory speaks of.
        match names.get((chance >> 8) as usize % names.len().max(1)).filter(|_| chance.is_multiple_of(3)) {
            Some((ecosystem, name)) => component(*ecosystem, name, &version(number)),
            None => {
                let ecosystem = match number % 4 {
                    0 => Ecosystem::Npm,
                    1 => Ecosystem::PyPi,
                    2 => Ecosystem::Cargo,
                    _ => Ecosystem::Go,
                };
                component(ecosystem, &format!("example.org/part-{}", number / 8), &version(number))
            }
        }
    }

    /// A component by number: those of distributions come first, then those of frameworks, then those of images.
    fn component(&self, number: usize) -> Component {
        match number.checked_sub(SYSTEMS * OF_SYSTEM) {
            None => self.of_system(number / OF_SYSTEM, number % OF_SYSTEM),
            Some(number) => self.of_language(number),
        }
    }

    /// The numbers of the components of an image, each with the layer that brings it.
    fn numbers(&self, image: usize) -> BTreeSet<(usize, usize)> {
        let first_own = SYSTEMS * OF_SYSTEM + FRAMEWORKS * OF_FRAMEWORK;
        let (system, framework) = (image % SYSTEMS, mixed(image as u64) as usize % FRAMEWORKS);
        let mut numbers: BTreeSet<(usize, usize)> = (0..OF_SYSTEM).map(|at| (system * OF_SYSTEM + at, 0)).collect();
        numbers.extend((0..OF_FRAMEWORK).map(|at| (SYSTEMS * OF_SYSTEM + framework * OF_FRAMEWORK + at, 1)));
        let per_image = self.pool.div_ceil(self.images);
        let rare = (image * per_image..(image + 1) * per_image).take_while(|at| *at < self.pool);
        numbers.extend(rare.map(|at| (first_own + at, 2)));
        let mut seed = image as u64;
        while numbers.len() < COMPONENTS {
            seed = mixed(seed);
            // A few are chosen by thousands, most by a few.
            let share = (seed >> 11) as f64 / (1_u64 << 53) as f64;
            numbers.insert((first_own + (share.powi(4) * self.pool as f64) as usize, 2));
        }
        numbers
    }

    pub(crate) fn pushed(&self, image: usize, config: &str, layer: &str) -> anyhow::Result<Pushed> {
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{config},"layers":[{layer}],"annotations":{{"image":"{image}"}}}}"#,
            oci::media::OCI_MANIFEST
        );
        Ok(Pushed {
            repository: repository(image / IN_REPOSITORY)?,
            tag: format!("v{}", image % IN_REPOSITORY),
            digest: Digest::sha256_of(manifest.as_bytes()),
            manifest,
        })
    }

    /// How many repositories there are.
    pub(crate) fn repositories(&self) -> usize {
        self.images.div_ceil(IN_REPOSITORY)
    }

    /// What an image holds.
    pub(crate) fn contents(&self, image: usize) -> Contents {
        let components = self.numbers(image).into_iter().map(|(number, layer)| found(&self.component(number), layer));
        contents(components.collect())
    }

    /// A component that few have, and one that many have.
    pub(crate) fn rare_and_common(&self, at: usize) -> (Component, Component) {
        let first_own = SYSTEMS * OF_SYSTEM + FRAMEWORKS * OF_FRAMEWORK;
        let rare = self.component(first_own + mixed(at as u64) as usize % self.pool);
        let common = match at % 2 {
            0 => self.component(mixed(at as u64) as usize % (SYSTEMS * OF_SYSTEM)),
            _ => self.component(first_own + at % 8),
        };
        (rare, common)
    }

    /// How many images have a component of this name.
    pub(crate) fn images_with(&self, ecosystem: Ecosystem, name: &str) -> u64 {
        let all = 0..self.distinct();
        let named: BTreeSet<usize> = all
            .filter(|number| {
                let component = self.component(*number);
                component.ecosystem == ecosystem && component.name == name
            })
            .collect();
        (0..self.images).filter(|image| self.numbers(*image).iter().any(|(number, _)| named.contains(number))).count()
            as u64
    }
}

pub(crate) fn repository(number: usize) -> anyhow::Result<RepositoryName> {
    Ok(format!("team-{}/service-{number}", number % 20).parse()?)
}

fn version(number: usize) -> String {
    format!("{}.{}.{}", number % 4, number / 4 % 12, mixed(number as u64) % 20)
}

fn component(ecosystem: Ecosystem, name: &str, version: &str) -> Component {
    Component {
        ecosystem,
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: None,
        source: None,
        licences: Vec::new(),
        evidence: Evidence::Installed,
    }
}

pub(crate) fn found(component: &Component, layer: usize) -> Found {
    let Component { ecosystem, name, version, .. } = component;
    let licences = ["MIT", "Apache-2.0", "BSD-3-Clause", "GPL-2.0-only", "LGPL-2.1-only"];
    let licence = licences.get(name.len() % licences.len()).copied().unwrap_or_default().to_owned();
    let path = match ecosystem {
        Ecosystem::Rpm => "/var/lib/rpm/rpmdb.sqlite".to_owned(),
        Ecosystem::PyPi => format!("/usr/lib/python3/dist-packages/{name}-{version}.dist-info/METADATA"),
        Ecosystem::Npm => format!("/app/node_modules/{name}/package.json"),
        _ => "/app/bin/server".to_owned(),
    };
    Found {
        id: format!("{}/{name}@{version}", ecosystem.word()),
        component: component.clone(),
        places: vec![Place { layer: Some(layer), chain: vec![path] }],
        owner: None,
        further: Vec::new(),
        hashes: Vec::new(),
        depends_on: Vec::new(),
        details: Details::default(),
        licences: vec![Licence { stated: licence.clone(), expression: Some(licence) }],
    }
}

pub(crate) fn contents(mut components: Vec<Found>) -> Contents {
    components.sort_by(|a, b| a.id.cmp(&b.id));
    components.dedup_by(|a, b| a.id == b.id);
    let layer = |name: &str| Layer {
        digest: Digest::sha256_of(name.as_bytes()).to_string(),
        diff_id: Digest::sha256_of(name.as_bytes()).to_string(),
        size: 1,
        created_by: None,
    };
    Contents {
        tool: Tool { name: "bench".to_owned(), version: "1".to_owned() },
        image: Image { layers: vec![layer("system"), layer("framework"), layer("own")], ..Image::default() },
        operating_system: Some(OperatingSystem {
            id: "almalinux".to_owned(),
            version: "9.4".to_owned(),
            name: "AlmaLinux 9.4".to_owned(),
        }),
        components,
        findings: Vec::new(),
        matched: None,
        secrets: Vec::new(),
        unexamined: Vec::new(),
    }
}
