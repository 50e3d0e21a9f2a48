//! Tests of the crate from outside, on real databases and real sockets.

mod db;
