//! Bodies on their way through: a request's with a limit on stalling, a response's with the request's account.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::counters::Tally;
use super::routes::Busy;
use super::streams::Phase;

/// Why a request's body did not come to its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct BodyFault(Arc<AtomicU8>);

const FAULT_CLIENT: u8 = 1;
const FAULT_STALL: u8 = 2;

impl BodyFault {
    pub(crate) fn is_client(&self) -> bool {
        self.0.load(SeqCst) == FAULT_CLIENT
    }

    pub(crate) fn is_stall(&self) -> bool {
        self.0.load(SeqCst) == FAULT_STALL
    }
}

/// A client's request body; fails when nothing comes for too long.
pub(crate) struct RequestBody {
    inner: Incoming,
    fault: BodyFault,
    stall_time_max: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(crate) fn new(inner: Incoming, fault: BodyFault, stall_time_max: Duration) -> Self {
        Self { inner, fault, stall_time_max, timer: None }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Pending => {
                let limit = self.stall_time_max;
                let timer =
                    self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.fault.0.store(FAULT_STALL, SeqCst);
                Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())))
            }
            Poll::Ready(Some(Err(error))) => {
                self.fault.0.store(FAULT_CLIENT, SeqCst);
                Poll::Ready(Some(Err(io::Error::other(error))))
            }
            Poll::Ready(done) => {
                self.timer = None;
                Poll::Ready(done.map(|frame| frame.map_err(io::Error::other)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A response's body: the upstream's, or one the proxy wrote. While an upstream's is under way the upstream is busy;
/// at its end the request is counted, before the client can see that end.
pub(crate) struct AnswerBody {
    source: Source,
    account: Option<Account>,
}

enum Source {
    Upstream(Incoming),
    Own(Option<Bytes>),
}

/// What is settled when a response ends.
pub(crate) struct Account {
    pub(crate) tally: Tally,
    pub(crate) busy: Busy,
    pub(crate) phase: Phase,
    pub(crate) fault: BodyFault,
}

impl AnswerBody {
    pub(crate) fn upstream(body: Incoming, account: Account) -> Self {
        let mut this = Self { source: Source::Upstream(body), account: Some(account) };
        this.settle_if_ended();
        this
    }

    pub(crate) fn own(bytes: Bytes) -> Self {
        Self { source: Source::Own(Some(bytes).filter(|b| !b.is_empty())), account: None }
    }

    fn settle_if_ended(&mut self) {
        if self.is_end_stream() {
            self.settle();
        }
    }

    fn settle(&mut self) {
        if let Some(Account { tally, busy, phase, .. }) = self.account.take() {
            // The upstream is free before the request counts: whoever sees the count finds nobody busy with it.
            drop(busy);
            tally.answered();
            phase.idle();
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let inner = match &mut this.source {
            Source::Own(bytes) => return Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Source::Upstream(inner) => inner,
        };
        let polled = std::task::ready!(Pin::new(inner).poll_frame(cx));
        match &polled {
            Some(Ok(_)) => this.settle_if_ended(),
            None => this.settle(),
            Some(Err(_)) => {
                if let Some(account) = this.account.take()
                    && !account.fault.is_client()
                {
                    account.tally.failed();
                }
            }
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(bytes) => bytes.is_none(),
            Source::Upstream(inner) => inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Source::Upstream(inner) => inner.size_hint(),
        }
    }
}
