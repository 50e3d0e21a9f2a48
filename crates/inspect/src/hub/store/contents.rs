//! What images hold: the documents, and the index from components and licences to images.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};

use api::Micros;
use base::db::{LIST_MAX, Sql, Tx, sql};
use futures::FutureExt as _;

use super::super::packed::{Reader, Writer};
use super::super::stored;
use super::images::LayerRow;
use super::lookup::{Key, platform_text};
use super::postings::{self, Held, PLACES_KEPT};
use super::{Changing, ROWS, Store, damaged, numbers_take, raise, rows_text, whole};
use crate::advisory::place::Platform;
use crate::component::Evidence;
use crate::hub::error::Error;

/// Components that are put into the index in one transaction at most.
const CHUNK: usize = 2000;
const POST: &str = "INSERT INTO posting (subject, bucket, images)";
const POST_AGAIN: &str = "ON CONFLICT (subject, bucket) DO UPDATE SET images = excluded.images";

/// A component of an image, as the index has it.
#[derive(Clone, Debug)]
pub(in crate::hub) struct Entry {
    pub(in crate::hub) key: Key,
    pub(in crate::hub) evidence: Evidence,
    /// Whether it is another name of an OS package.
    pub(in crate::hub) is_owned: bool,
    /// Layers and chains of paths.
    pub(in crate::hub) places: Vec<(Option<u32>, Vec<String>)>,
    /// Identifiers of the SPDX list, or what was stated where that is none.
    pub(in crate::hub) licences: Vec<String>,
}

/// What is kept of an image that was read.
#[derive(Clone, Debug)]
pub(in crate::hub) struct Kept {
    pub(in crate::hub) number: i64,
    pub(in crate::hub) system: Option<String>,
    /// The distribution's release, as advisories name it.
    pub(in crate::hub) platform: Option<Platform>,
    pub(in crate::hub) unexamined: u64,
    /// Keys and tokens; none where they were not looked for.
    pub(in crate::hub) secrets: Option<u64>,
    pub(in crate::hub) components: u64,
    pub(in crate::hub) contents: Vec<u8>,
    pub(in crate::hub) layers: Vec<LayerRow>,
    pub(in crate::hub) entries: Vec<Entry>,
}

/// What subjects an image has, and what is said of each.
type Said = BTreeMap<i64, Vec<(i64, Held)>>;

/// The subjects of each image.
type Subjects = BTreeMap<i64, BTreeSet<i64>>;

impl Store {
    /// Keeps what was found in images, and puts them into the index: in one transaction unless they have very much. An image
    /// counts as read with the last one; one that is cut short is read again and ends the same.
    pub(in crate::hub) async fn keep(&self, images: Vec<Kept>, now: Micros) -> Result<(), Error> {
        let images = Arc::new(images);
        let mut all: Vec<(&Key, usize, usize)> = images
            .iter()
            .enumerate()
            .flat_map(|(image, kept)| {
                kept.entries.iter().enumerate().map(move |(entry, kept)| (&kept.key, image, entry))
            })
            .collect();
        // What several of them have is written once for all of them.
        all.sort_unstable();
        let all: Vec<(usize, usize)> = all.into_iter().map(|(_, image, entry)| (image, entry)).collect();
        let mut chunks: Vec<Arc<[(usize, usize)]>> = all.chunks(CHUNK).map(Arc::from).collect();
        if chunks.is_empty() {
            chunks.push(Arc::from([]));
        }
        let last = chunks.len() - 1;
        let mut subjects = Arc::new(Subjects::new());
        for (at, chunk) in chunks.into_iter().enumerate() {
            let (images, before) = (Arc::clone(&images), Arc::clone(&subjects));
            let subjects_then = self.db.write(move |tx| {
                let (images, chunk, before) = (Arc::clone(&images), Arc::clone(&chunk), Arc::clone(&before));
                async move {
                    if at == 0 {
                        for kept in images.iter() {
                            unlicense(tx, kept.number).await?;
                        }
                    }
                    let entries: Vec<(i64, &Entry)> = chunk
                        .iter()
                        .filter_map(|(image, entry)| {
                            let image = images.get(*image)?;
                            Some((image.number, image.entries.get(*entry)?))
                        })
                        .collect();
                    let mut subjects = (*before).clone();
                    for (subject, image) in index(tx, &entries).await? {
                        subjects.entry(image).or_default().insert(subject);
                    }
                    if at == last {
                        let none = BTreeSet::new();
                        for kept in images.iter() {
                            finish(tx, kept, subjects.get(&kept.number).unwrap_or(&none), now).await?;
                        }
                        raise(tx, Changing::Images).await?;
                    }
                    Ok::<_, Error>(subjects)
                }
                .boxed()
            });
            subjects = Arc::new(subjects_then.await?);
        }
        Ok(())
    }

    /// The document of an image.
    pub(in crate::hub) async fn contents(&self, number: i64) -> Result<Option<Vec<u8>>, Error> {
        let row = sql("SELECT contents FROM image_contents WHERE number = $1").bind(number).optional(&self.db).await?;
        Ok(row.map(|row| row.get("contents")).transpose()?)
    }

    /// Takes an image that is in no repository out of all there is.
    pub(in crate::hub) async fn forget(&self, number: i64) -> Result<(), Error> {
        self.db
            .write(move |tx| {
                async move {
                    let there = sql("SELECT r.digest FROM image i JOIN image_repository r ON r.digest = i.digest \
                         WHERE i.number = $1 LIMIT 1");
                    if there.bind(number).optional(tx).await?.is_some() {
                        return Ok(());
                    }
                    for subject in subjects_of(tx, number).await? {
                        take_out(tx, subject, number).await?;
                    }
                    for text in [
                        "DELETE FROM image_contents WHERE number = $1",
                        "DELETE FROM image_layer WHERE image = $1",
                        "DELETE FROM attaching WHERE image = $1",
                        "DELETE FROM lifted WHERE image = $1",
                        "DELETE FROM image WHERE number = $1",
                    ] {
                        sql(text).bind(number).execute(tx).await?;
                    }
                    raise(tx, Changing::Images).await
                }
                .boxed()
            })
            .await
    }
}

fn subjects_write(subjects: &BTreeSet<i64>) -> Vec<u8> {
    let of = |licences: bool| -> Vec<u64> {
        let mut numbers: Vec<u64> = subjects
            .iter()
            .filter(|subject| (**subject < 0) == licences)
            .map(|subject| subject.unsigned_abs())
            .collect();
        numbers.sort_unstable();
        numbers
    };
    let mut writer = Writer::default();
    writer.rising(&of(false));
    writer.rising(&of(true));
    writer.finish()
}

fn subjects_read(bytes: &[u8]) -> Result<Vec<i64>, Error> {
    let mut reader = Reader::new(bytes);
    let mut subjects: Vec<i64> = reader.rising()?.into_iter().map(u64::cast_signed).collect();
    subjects.extend(reader.rising()?.into_iter().map(|number| -number.cast_signed()));
    Ok(subjects)
}

async fn subjects_of(tx: &mut Tx, number: i64) -> Result<Vec<i64>, Error> {
    let row = sql("SELECT subjects FROM image_contents WHERE number = $1").bind(number).optional(tx).await?;
    row.map_or(Ok(Vec::new()), |row| subjects_read(&row.get::<Vec<u8>>("subjects")?))
}

/// Puts entries into the index, and gives back which subject has which image from then on.
async fn index(tx: &mut Tx, entries: &[(i64, &Entry)]) -> Result<Vec<(i64, i64)>, Error> {
    let components = components(tx, entries).await?;
    let chains: BTreeSet<String> =
        entries.iter().flat_map(|(_, entry)| places(entry)).map(|(_, chain)| chain).collect();
    let chains = chains_numbered(tx, &chains).await?;
    let spdx: BTreeSet<&str> =
        entries.iter().flat_map(|(_, entry)| entry.licences.iter().map(String::as_str)).collect();
    let licences = licences_numbered(tx, &spdx).await?;
    let mut said: Said = BTreeMap::new();
    let mut licensed: BTreeMap<(i64, i64), BTreeSet<i64>> = BTreeMap::new();
    for (image, entry) in entries {
        let component = *components.get(&entry.key.hash()).ok_or_else(|| damaged("component", "it has no number"))?;
        let places =
            places(entry).filter_map(|(layer, chain)| Some((layer, *chains.get(&hash(chain.as_bytes()))?))).collect();
        said.entry(component)
            .or_default()
            .push((*image, Held::Component { evidence: entry.evidence, is_owned: entry.is_owned, places }));
        for licence in &entry.licences {
            if let Some(licence) = licences.get(licence.as_str()) {
                licensed.entry((-licence, *image)).or_default().insert(component);
            }
        }
    }
    for ((licence, image), ids) in licensed {
        said.entry(licence).or_default().push((image, Held::Licensed(ids.into_iter().collect())));
    }
    let pairs = said.iter().flat_map(|(subject, images)| images.iter().map(|(image, _)| (*subject, *image))).collect();
    post(tx, said).await?;
    Ok(pairs)
}

fn places(entry: &Entry) -> impl Iterator<Item = (Option<u32>, String)> {
    let text = |chain: &[String]| serde_json::to_string(chain).unwrap_or_default();
    entry.places.iter().take(PLACES_KEPT).map(move |(layer, chain)| (*layer, text(chain)))
}

/// What stands for bytes in an index.
pub(super) fn hash(bytes: &[u8]) -> Vec<u8> {
    let digest = oci::Digest::sha256_of(bytes);
    digest.as_bytes().get(..16).unwrap_or_default().to_vec()
}

/// The numbers of components, new ones for those that have none.
async fn components(tx: &mut Tx, entries: &[(i64, &Entry)]) -> Result<HashMap<Vec<u8>, i64>, Error> {
    let keys: BTreeMap<Vec<u8>, &Key> = entries.iter().map(|(_, entry)| (entry.key.hash(), &entry.key)).collect();
    let hashes: Vec<Vec<u8>> = keys.keys().cloned().collect();
    let mut numbers = numbered(tx, "SELECT hash, id FROM component WHERE hash = ANY($1)", &hashes).await?;
    let new: Vec<_> = keys.into_iter().filter(|(hash, _)| !numbers.contains_key(hash)).collect();
    let first = numbers_take(tx, "component", new.len()).await?;
    for (id, (hash, key)) in (first..).zip(new) {
        key.insert(tx, id, &hash).await?;
        numbers.insert(hash, id);
    }
    Ok(numbers)
}

async fn numbered(tx: &mut Tx, text: &'static str, hashes: &[Vec<u8>]) -> Result<HashMap<Vec<u8>, i64>, Error> {
    let mut numbers = HashMap::with_capacity(hashes.len());
    for chunk in hashes.chunks(LIST_MAX) {
        for row in sql(text).bind(chunk).all(tx).await? {
            numbers.insert(row.get("hash")?, row.get("id")?);
        }
    }
    Ok(numbers)
}

/// The numbers of chains, by their hashes.
async fn chains_numbered(tx: &mut Tx, chains: &BTreeSet<String>) -> Result<HashMap<Vec<u8>, i64>, Error> {
    let texts: BTreeMap<Vec<u8>, &String> = chains.iter().map(|chain| (hash(chain.as_bytes()), chain)).collect();
    let hashes: Vec<Vec<u8>> = texts.keys().cloned().collect();
    let mut numbers = numbered(tx, "SELECT hash, id FROM place WHERE hash = ANY($1)", &hashes).await?;
    let new: Vec<_> = texts.into_iter().filter(|(hash, _)| !numbers.contains_key(hash)).collect();
    let first = numbers_take(tx, "place", new.len()).await?;
    for (id, (hash, chain)) in (first..).zip(new) {
        sql("INSERT INTO place (id, hash, chain) VALUES ($1, $2, $3)")
            .bind(id)
            .bind(hash.as_slice())
            .bind(chain)
            .execute(tx)
            .await?;
        numbers.insert(hash, id);
    }
    Ok(numbers)
}

async fn licences_numbered(tx: &mut Tx, spdx: &BTreeSet<&str>) -> Result<HashMap<String, i64>, Error> {
    let texts: Vec<String> = spdx.iter().map(|text| (*text).to_owned()).collect();
    let mut numbers = HashMap::new();
    for chunk in texts.chunks(LIST_MAX) {
        let statement = sql("SELECT spdx, id FROM licence WHERE spdx = ANY($1)");
        for row in statement.bind(chunk).all(tx).await? {
            numbers.insert(row.get::<String>("spdx")?, row.get("id")?);
        }
    }
    let new: Vec<&String> = texts.iter().filter(|text| !numbers.contains_key(*text)).collect();
    let first = numbers_take(tx, "licence", new.len()).await?;
    for (id, text) in (first..).zip(new) {
        sql("INSERT INTO licence (id, spdx) VALUES ($1, $2)").bind(id).bind(text).execute(tx).await?;
        numbers.insert(text.clone(), id);
    }
    Ok(numbers)
}

/// Writes rows of the index.
async fn post(tx: &mut Tx, said: Said) -> Result<(), Error> {
    let mut rows: BTreeMap<i64, BTreeMap<i64, Vec<(u16, Held)>>> = BTreeMap::new();
    for (subject, images) in said {
        for (image, held) in images {
            let (bucket, low) = postings::place(subject, image)?;
            rows.entry(bucket).or_default().entry(subject).or_default().push((low, held));
        }
    }
    for (bucket, subjects) in rows {
        let numbers: Vec<i64> = subjects.keys().copied().collect();
        let mut known: HashMap<i64, Vec<u8>> = HashMap::new();
        for chunk in numbers.chunks(LIST_MAX) {
            let statement = sql("SELECT subject, images FROM posting WHERE subject = ANY($1) AND bucket = $2");
            for row in statement.bind(chunk).bind(bucket).all(tx).await? {
                known.insert(row.get("subject")?, row.get("images")?);
            }
        }
        let mut written = Vec::with_capacity(subjects.len());
        for (subject, images) in subjects {
            let mut row = known.remove(&subject).unwrap_or_default();
            for (low, held) in images {
                row = postings::changed(subject, &row, low, |known| Some(merged(known, held)))?;
            }
            written.push((subject, row));
        }
        post_rows(tx, bucket, &written).await?;
    }
    Ok(())
}

/// What is to be said of an image: components under a licence come in several transactions.
fn merged(known: Option<Held>, held: Held) -> Held {
    match (known, held) {
        (Some(Held::Licensed(known)), Held::Licensed(new)) => {
            let ids: BTreeSet<i64> = known.into_iter().chain(new).collect();
            Held::Licensed(ids.into_iter().collect())
        }
        (_, held) => held,
    }
}

async fn post_rows(tx: &mut Tx, bucket: i64, rows: &[(i64, Vec<u8>)]) -> Result<(), Error> {
    static MANY: LazyLock<String> = LazyLock::new(|| rows_text(POST, 3, ROWS, POST_AGAIN));
    static ONE: LazyLock<String> = LazyLock::new(|| rows_text(POST, 3, 1, POST_AGAIN));
    for rows in rows.chunks(ROWS) {
        for (text, rows) in whole(rows, &MANY, &ONE) {
            let bind = |statement: Sql, (subject, row): &(i64, Vec<u8>)| {
                statement.bind(*subject).bind(bucket).bind(row.as_slice())
            };
            rows.iter().fold(sql(text), bind).execute(tx).await?;
        }
    }
    Ok(())
}

/// Takes out what an image has under licences: that is gathered over several transactions, and must not be gathered on top
/// of what was there before.
async fn unlicense(tx: &mut Tx, number: i64) -> Result<(), Error> {
    for subject in subjects_of(tx, number).await? {
        if subject < 0 {
            take_out(tx, subject, number).await?;
        }
    }
    Ok(())
}

async fn take_out(tx: &mut Tx, subject: i64, number: i64) -> Result<(), Error> {
    let (bucket, low) = postings::place(subject, number)?;
    let row = sql("SELECT images FROM posting WHERE subject = $1 AND bucket = $2").bind(subject).bind(bucket);
    let Some(row) = row.optional(tx).await? else { return Ok(()) };
    let row = postings::changed(subject, &row.get::<Vec<u8>>("images")?, low, |_| None)?;
    if row.is_empty() {
        sql("DELETE FROM posting WHERE subject = $1 AND bucket = $2").bind(subject).bind(bucket).execute(tx).await?;
    } else {
        post_rows(tx, bucket, &[(subject, row)]).await?;
    }
    Ok(())
}

/// The last transaction of an image: what it had before and has no longer goes from the index.
async fn finish(tx: &mut Tx, kept: &Kept, subjects: &BTreeSet<i64>, now: Micros) -> Result<(), Error> {
    for subject in subjects_of(tx, kept.number).await? {
        if !subjects.contains(&subject) {
            take_out(tx, subject, kept.number).await?;
        }
    }
    sql("INSERT INTO image_contents (number, contents, subjects) VALUES ($1, $2, $3)
         ON CONFLICT (number) DO UPDATE SET contents = excluded.contents, subjects = excluded.subjects")
    .bind(kept.number)
    .bind(kept.contents.as_slice())
    .bind(subjects_write(subjects))
    .execute(tx)
    .await?;
    sql("DELETE FROM image_layer WHERE image = $1").bind(kept.number).execute(tx).await?;
    for (at, layer) in kept.layers.iter().enumerate() {
        let position = i64::try_from(at).map_err(|error| damaged("position", error))?;
        sql("INSERT INTO image_layer (image, position, digest, diff_id, is_last) VALUES ($1, $2, $3, $4, $5)")
            .bind(kept.number)
            .bind(position)
            .bind(layer.digest.to_string())
            .bind(layer.diff_id.to_string())
            .bind(at + 1 == kept.layers.len())
            .execute(tx)
            .await?;
    }
    sql("INSERT INTO attaching (image, due_at, tries, is_entered) VALUES ($1, $2, 0, 0)
         ON CONFLICT (image) DO UPDATE SET due_at = excluded.due_at, tries = 0")
    .bind(kept.number)
    .bind(now)
    .execute(tx)
    .await?;
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    sql("UPDATE image SET state = 'done', format = $1, at = $2, why = '', system = $3, unexamined = $4, components = $5, \
         platform = $6, secrets = $7, tries = 0 WHERE number = $8")
    .bind(stored::FORMAT)
    .bind(now)
    .bind(kept.system.clone())
    .bind(count(kept.unexamined))
    .bind(count(kept.components))
    .bind(kept.platform.as_ref().map(platform_text).unwrap_or_default())
    .bind(kept.secrets.map(count))
    .bind(kept.number)
    .execute(tx)
    .await?;
    Ok(())
}
