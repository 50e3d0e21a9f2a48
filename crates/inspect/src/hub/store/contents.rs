//! What images hold: the documents, and the index from components and licences to images.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};

use api::Micros;
use base::db::{LIST_MAX, Sql, Tx, sql};
use futures::FutureExt as _;

use super::super::stored;
use super::held::{self, AllHeld, Held, PLACES_KEPT};
use super::images::LayerRow;
use super::lookup::{Key, platform_text};
use super::postings::{self, Change};
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

/// What each image has, by number.
type Gathered = BTreeMap<i64, AllHeld>;

fn gather(all: &mut Gathered, further: Gathered) {
    for (image, held) in further {
        all.entry(image).or_default().extend(held);
    }
}

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
        let mut gathered = Arc::new(Gathered::new());
        for (at, chunk) in chunks.into_iter().enumerate() {
            let (images, before) = (Arc::clone(&images), Arc::clone(&gathered));
            let further = self.db.write(move |tx| {
                let (images, chunk, before) = (Arc::clone(&images), Arc::clone(&chunk), Arc::clone(&before));
                async move {
                    let entries: Vec<(i64, &Entry)> = chunk
                        .iter()
                        .filter_map(|(image, entry)| {
                            let image = images.get(*image)?;
                            Some((image.number, image.entries.get(*entry)?))
                        })
                        .collect();
                    let further = index(tx, &entries).await?;
                    if at == last {
                        let mut all = (*before).clone();
                        gather(&mut all, further);
                        for kept in images.iter() {
                            finish(tx, kept, &all.remove(&kept.number).unwrap_or_default(), now).await?;
                        }
                        raise(tx, Changing::Images).await?;
                        return Ok(Gathered::new());
                    }
                    Ok::<_, Error>(further)
                }
                .boxed()
            });
            gather(Arc::make_mut(&mut gathered), further.await?);
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
                    let subjects = subjects_of(tx, number).await?;
                    take_out(tx, subjects, number).await?;
                    for text in [
                        "DELETE FROM image_contents WHERE number = $1",
                        "DELETE FROM image_held WHERE number = $1",
                        "DELETE FROM image_layer WHERE image = $1",
                        "DELETE FROM attaching WHERE image = $1",
                        "DELETE FROM lifted WHERE image = $1",
                        "DELETE FROM voiced WHERE image = $1",
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

async fn subjects_of(tx: &mut Tx, number: i64) -> Result<Vec<i64>, Error> {
    let row = sql("SELECT held FROM image_held WHERE number = $1").bind(number).optional(tx).await?;
    row.map_or(Ok(Vec::new()), |row| Ok(held::subjects(&row.get::<Vec<u8>>("held")?)?))
}

/// Puts entries into the index, and gives back what the images have.
async fn index(tx: &mut Tx, entries: &[(i64, &Entry)]) -> Result<Gathered, Error> {
    let components = components(tx, entries).await?;
    let chains: BTreeSet<String> =
        entries.iter().flat_map(|(_, entry)| places(entry)).map(|(_, chain)| chain).collect();
    let chains = chains_numbered(tx, &chains).await?;
    let spdx: BTreeSet<&str> =
        entries.iter().flat_map(|(_, entry)| entry.licences.iter().map(String::as_str)).collect();
    let licences = licences_numbered(tx, &spdx).await?;
    let mut gathered = Gathered::new();
    for (image, entry) in entries {
        let component = *components.get(&entry.key.hash()).ok_or_else(|| damaged("component", "it has no number"))?;
        let places =
            places(entry).filter_map(|(layer, chain)| Some((layer, *chains.get(&hash(chain.as_bytes()))?))).collect();
        let of_image = gathered.entry(*image).or_default();
        let held = Held { evidence: entry.evidence, is_owned: entry.is_owned, places };
        of_image.components.insert(component, held);
        for licence in entry.licences.iter().filter_map(|licence| licences.get(licence.as_str())) {
            of_image.licences.entry(*licence).or_default().insert(component);
        }
    }
    let mut changes = Changes::new();
    for (image, held) in &gathered {
        let (bucket, low) = postings::place(*image);
        for (subject, is_owned) in held.subjects() {
            changes.entry(bucket).or_default().entry(subject).or_default().push((low, Some(is_owned)));
        }
    }
    post(tx, changes).await?;
    Ok(gathered)
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

/// What is to be said in rows of the index: by bucket and subject, of which images.
type Changes = BTreeMap<i64, BTreeMap<i64, Vec<Change>>>;

/// Changes rows of the index.
async fn post(tx: &mut Tx, changes: Changes) -> Result<(), Error> {
    for (bucket, subjects) in changes {
        let subjects: Vec<(i64, Vec<Change>)> = subjects.into_iter().collect();
        for subjects in subjects.chunks(LIST_MAX) {
            let numbers: Vec<i64> = subjects.iter().map(|(subject, _)| *subject).collect();
            let statement = sql("SELECT subject, images FROM posting WHERE subject = ANY($1) AND bucket = $2");
            let mut known: HashMap<i64, Vec<u8>> = HashMap::new();
            for row in statement.bind(&*numbers).bind(bucket).all(tx).await? {
                known.insert(row.get("subject")?, row.get("images")?);
            }
            let (mut written, mut emptied) = (Vec::with_capacity(subjects.len()), Vec::new());
            for (subject, images) in subjects {
                let before = known.remove(subject);
                let row = postings::changed(before.as_deref().unwrap_or_default(), images)?;
                if row.is_empty() {
                    emptied.push(*subject);
                } else if before.as_ref() != Some(&row) {
                    written.push((*subject, row));
                }
            }
            post_rows(tx, bucket, &written).await?;
            if !emptied.is_empty() {
                let statement = sql("DELETE FROM posting WHERE subject = ANY($1) AND bucket = $2");
                statement.bind(&*emptied).bind(bucket).execute(tx).await?;
            }
        }
    }
    Ok(())
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

/// Takes an image out of rows of the index.
async fn take_out(tx: &mut Tx, subjects: Vec<i64>, number: i64) -> Result<(), Error> {
    let (bucket, low) = postings::place(number);
    let changes = subjects.into_iter().map(|subject| (subject, vec![(low, None)])).collect();
    post(tx, Changes::from([(bucket, changes)])).await
}

/// The last transaction of an image: what it had before and has no longer goes from the index.
async fn finish(tx: &mut Tx, kept: &Kept, held: &AllHeld, now: Micros) -> Result<(), Error> {
    let there: BTreeSet<i64> = held.subjects().map(|(subject, _)| subject).collect();
    let gone = subjects_of(tx, kept.number).await?.into_iter().filter(|subject| !there.contains(subject));
    take_out(tx, gone.collect(), kept.number).await?;
    sql("INSERT INTO image_contents (number, contents) VALUES ($1, $2)
         ON CONFLICT (number) DO UPDATE SET contents = excluded.contents")
    .bind(kept.number)
    .bind(kept.contents.as_slice())
    .execute(tx)
    .await?;
    sql(
        "INSERT INTO image_held (number, held) VALUES ($1, $2) ON CONFLICT (number) DO UPDATE SET held = excluded.held",
    )
    .bind(kept.number)
    .bind(held.write())
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
