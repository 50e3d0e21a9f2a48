//! Tables over the control socket: order, persistence, one proxy at a time, ports that are not free.

use agent::proxy::client::ClientError;
use agent::proxy::table::Table;
use agent::proxy::{ProxyError, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::proxy_rig::{Proxy, Web, eventually, free_address};

fn kind(error: ClientError) -> String {
    match error {
        ClientError::Refused { kind, .. } => kind,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_or_invalid_table_is_refused_and_changes_nothing() {
    let (proxy, web) = (Proxy::start().await, Web::start("one").await);
    let table = proxy.table(7, 0, std::slice::from_ref(&web.upstream));
    proxy.put(&table).await;
    let older = Table { number: 6, ..Table::default() };
    assert_eq!(kind(proxy.client.put_table(&older).await.unwrap_err()), "older-table");
    let mut twice = table.clone();
    twice.number = 8;
    twice.listeners.push(table.listeners[0].clone());
    assert_eq!(kind(proxy.client.put_table(&twice).await.unwrap_err()), "invalid-table");
    assert_eq!(proxy.put(&table).await.number, 7, "the same table again is fine");
    assert!(proxy.get("/name").await.ends_with("one"));
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_starts_again_serves_the_last_table_at_once() {
    let (proxy, web) = (Proxy::start().await, Web::start("one").await);
    proxy.serve(0, std::slice::from_ref(&web.upstream), &[], None).await;
    let (config, address) = (proxy.config.clone(), proxy.address);
    let _folder = proxy.stop().await;
    assert!(!config.control_socket.exists());

    let mut again = Proxy::start_at(config).await;
    again.address = address;
    assert!(again.get("/name").await.ends_with("one"));
    assert_eq!(again.client.status().await.unwrap().number, 1);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_file_that_makes_no_sense_is_put_aside() {
    let proxy = Proxy::start().await;
    let config = proxy.config.clone();
    let _folder = proxy.stop().await;
    std::fs::write(&config.state_file, "{\"form\":1,\"table\":{\"num").unwrap();
    let again = Proxy::start_at(config.clone()).await;
    assert_eq!(again.client.status().await.unwrap().number, 0);
    assert!(config.state_file.with_file_name("table.json.unreadable").exists());
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_proxy_on_one_control_socket_says_who_has_it() {
    let proxy = Proxy::start().await;
    let second = run(proxy.config.clone(), CancellationToken::new()).await.unwrap_err();
    let ProxyError::AlreadyRunning { pid, .. } = &second else { panic!("{second}") };
    assert_eq!(*pid, std::process::id().to_string());
    assert!(proxy.client.status().await.is_ok(), "the first one is unharmed");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_reported_and_taken_when_it_is_free() {
    let (proxy, web) = (Proxy::start().await, Web::start("one").await);
    let holder = TcpListener::bind(proxy.address).await.unwrap();
    let status = proxy.put(&proxy.table(1, 0, std::slice::from_ref(&web.upstream))).await;
    let error = status.listeners[0].error.clone().unwrap();
    assert!(!status.listeners[0].bound && error.contains("in use"), "{error}");
    drop(holder);
    eventually("the port is bound", || async { Some(proxy.listener().await).filter(|l| l.bound && l.error.is_none()) })
        .await;
    assert!(proxy.get("/name").await.ends_with("one"));
    proxy.stop().await;
}

/// A virtual address is bound before the host has it: 192.0.2.0/24 is for documentation and on no machine.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_the_host_does_not_have_yet_can_be_bound() {
    let mut proxy = Proxy::start().await;
    proxy.address = "192.0.2.7:80".parse().unwrap();
    assert!(proxy.put(&proxy.table(1, 0, &[])).await.listeners[0].bound);
    proxy.stop().await;
}

/// A listener with another key takes the address over, and a listener moves to another address with its counters.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_handed_over_and_counters_stay_with_the_key() {
    let (mut proxy, web) = (Proxy::start().await, Web::start("one").await);
    let mut table = proxy.table(1, 0, std::slice::from_ref(&web.upstream));
    proxy.put(&table).await;
    proxy.get("/name").await;
    let mut stayer = proxy.connect().await;
    for number in 2..20 {
        table.number = number;
        table.listeners[0].key = format!("key-{number}");
        let (status, answer) = tokio::join!(proxy.put(&table), proxy.get("/name"));
        assert!(status.listeners[0].bound);
        assert!(answer.ends_with("one"), "{answer}");
        stayer.write_all(b"GET /name HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 1024];
        let count = stayer.read(&mut answer).await.unwrap();
        assert!(answer[..count].ends_with(b"one"), "a kept-alive client is handed over too");
    }
    let before = proxy.get("/name").await;
    assert!(before.ends_with("one"));
    let requests = proxy.listener().await.requests_total;
    proxy.address = free_address();
    table.number = 20;
    table.listeners[0].address = proxy.address;
    proxy.put(&table).await;
    assert!(proxy.get("/name").await.ends_with("one"));
    assert_eq!(proxy.listener().await.requests_total, requests + 1);
    proxy.stop().await;
}
