//! Reaching an upstream: the next one when one refuses, and a bounded wait when none takes the connection.

use std::io;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::either::Either;

use super::Shared;
use super::mesh::{self, MeshStream};
use super::routes::{Busy, Place, Purpose, Reach};
use super::streams;
use super::table::RouteKey;

/// Pause before upstreams that refused are tried again while a request is held.
const REDIAL_PAUSE: Duration = Duration::from_millis(50);
/// The same when only other hosts are left, where each try costs two certificates' worth of arithmetic.
const REDIAL_PAUSE_REMOTE: Duration = Duration::from_millis(200);
const DIALS_PER_ROUND_MAX: usize = 16;

/// A connection to a container, straight or through another host.
pub(crate) type UpstreamStream = Either<TcpStream, MeshStream>;

/// An upstream that took the connection.
pub(crate) struct Reached {
    pub(crate) stream: UpstreamStream,
    pub(crate) busy: Busy,
}

/// Why no upstream was reached.
#[derive(Debug, Error)]
pub(crate) enum Unreachable {
    #[error("nothing serves {route} at present; see what its rollout waits for, and the containers' logs")]
    Nowhere { route: RouteKey },
    #[error("no container of {route} takes connections, the last one tried: {last}; see the containers' logs")]
    Refused { route: RouteKey, last: DialError },
    #[error("too many requests wait for {route} already; try again later")]
    TooManyHeld { route: RouteKey },
}

/// Why one upstream was not reached.
#[derive(Debug, Error)]
pub(crate) enum DialError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("{0}")]
    Mesh(#[from] mesh::TunnelError),
}

/// Reaches an upstream of `route`, the least busy first. When none is there or none answers, waits as long as the route
/// holds for the table to change or an upstream to answer; another host's connections are not held, for their own side
/// holds them.
pub(crate) async fn reach(
    shared: &Shared,
    route: &RouteKey,
    purpose: Purpose,
    scope: Reach,
) -> Result<Reached, Unreachable> {
    let started = Instant::now();
    let mut changes = shared.routes.changes();
    let mut held = None;
    loop {
        changes.borrow_and_update();
        let mut tried: Vec<Place> = Vec::new();
        let mut last = None;
        while tried.len() < DIALS_PER_ROUND_MAX
            && let Some((place, busy)) = shared.routes.pick(route, purpose, scope, &tried)
        {
            match dial(shared, &place).await {
                Ok(stream) => return Ok(Reached { stream, busy }),
                Err(error) => {
                    tracing::debug!(%route, ?place, %error, "an upstream was not reached");
                    last = Some(error);
                    tried.push(place);
                }
            }
        }
        let hold = if scope == Reach::ThisHost { Duration::ZERO } else { shared.routes.hold(route) };
        let left = hold.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Err(match last {
                Some(last) => Unreachable::Refused { route: route.clone(), last },
                None => Unreachable::Nowhere { route: route.clone() },
            });
        }
        if held.is_none() {
            let Ok(permit) = shared.held.try_acquire() else {
                return Err(Unreachable::TooManyHeld { route: route.clone() });
            };
            held = Some(permit);
        }
        let pause = match tried.first() {
            None => left,
            Some(Place::Local { .. }) => REDIAL_PAUSE.min(left),
            Some(Place::Remote { .. }) => REDIAL_PAUSE_REMOTE.min(left),
        };
        // Either way the next round looks at the table anew.
        let _ = timeout(pause, changes.changed()).await;
    }
}

async fn dial(shared: &Shared, place: &Place) -> Result<UpstreamStream, DialError> {
    let limit = shared.limits.dial_time_max;
    match place {
        Place::Local { address, .. } => {
            let stream =
                timeout(limit, TcpStream::connect(address)).await.map_err(|_| DialError::TimedOut(limit))??;
            streams::tune(&stream);
            Ok(Either::Left(stream))
        }
        // The other host needs up to the limit itself to reach its container.
        Place::Remote { host, address, route } => {
            let tunnel = mesh::open_tunnel(shared, host, *address, route);
            let stream = timeout(2 * limit, tunnel).await.map_err(|_| DialError::TimedOut(2 * limit))??;
            Ok(Either::Right(stream))
        }
    }
}
