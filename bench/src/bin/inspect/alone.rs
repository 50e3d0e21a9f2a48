//! Decompressing alone, as a measure of what the hardware allows: by the same library and with the same buffer.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Mutex;

use anyhow::anyhow;
use flate2::bufread::MultiGzDecoder;

/// As large as what `longshore inspect` decompresses at once.
const OUTPUT_BYTES: usize = 128 * 1024;
const INPUT_BYTES: usize = 64 * 1024;

/// Decompresses the files, the largest first, on as many threads as there are cores.
pub(crate) fn decompress(files: &[PathBuf]) -> anyhow::Result<()> {
    let mut order = Vec::new();
    for file in files {
        order.push((std::fs::metadata(file)?.len(), file));
    }
    order.sort_unstable();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let next = Mutex::new(order);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores.min(files.len())).map(|_| scope.spawn(|| work(&next))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow!("a thread failed"))?)
    })
}

fn work(next: &Mutex<Vec<(u64, &PathBuf)>>) -> anyhow::Result<()> {
    let mut output = vec![0; OUTPUT_BYTES];
    loop {
        let file = next.lock().map_err(|_| anyhow!("a thread failed"))?.pop();
        let Some((_, file)) = file else { return Ok(()) };
        let input = std::io::BufReader::with_capacity(INPUT_BYTES, File::open(file)?);
        let mut decoder = MultiGzDecoder::new(input);
        while decoder.read(&mut output)? > 0 {}
    }
}
