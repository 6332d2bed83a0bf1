//! The emulators that other tests stand on start, listen on loopback alone, and end when they are let go.

use std::net::TcpStream;
use tests::harness::{child::Server, ministack, moto};

fn is_gone_after_drop(server: Server) {
    let address = server.address();
    assert!(address.ip().is_loopback());
    assert!(TcpStream::connect(address).is_ok(), "{}", server.tail());
    drop(server);
    assert!(TcpStream::connect(address).is_err(), "{address} still answers");
}

#[test]
fn ministack_starts_and_ends_with_its_handle() {
    is_gone_after_drop(ministack::start(&[]).unwrap_or_else(|failure| panic!("{failure}")));
}

#[test]
fn moto_starts_and_ends_with_its_handle() {
    is_gone_after_drop(moto::start(&[]).unwrap_or_else(|failure| panic!("{failure}")));
}
