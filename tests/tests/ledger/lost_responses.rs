//! Writes whose response is lost: the SDK retries, and they happen once.

use crate::fixture::{TABLE, abort, at, claim, clients, commit, fixture, lease, target};
use aws::ledger::DynamoLedger;
use engine::{Administration as _, Brakes as _, Commands as _, Commit, LeaseOutcome, Leases as _, Targets as _};
use rollout::brake::{Brake, Lifted, Scope};
use rollout::target::TargetState;
use rollout::{Actor, Fact, JournalEntry};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test(flavor = "multi_thread")]
async fn a_write_with_a_lost_response_happens_once() {
    let fixture = fixture().await;
    let lossy_relay = LossyRelay::start(fixture.server.address()).await;
    let ledger = DynamoLedger::new(clients(&format!("http://{}", lossy_relay.address)).await, TABLE);
    let target = target("unheard/api/production");

    lossy_relay.lose_next("UpdateItem");
    let answer = ledger.acquire_lease(&target, &claim("one")).await.expect("an answer");
    assert!(matches!(answer, LeaseOutcome::Granted(_)), "{answer:?}");

    lossy_relay.lose_next("TransactWriteItems");
    let command = abort(&target, "1", at(0));
    assert!(ledger.put_command(&command).await.expect("written"), "it was new");

    lossy_relay.lose_next("TransactWriteItems");
    let state = TargetState::new(target.clone());
    let journal = [JournalEntry {
        target: target.clone(),
        sequence: 1,
        deployment: None,
        at: at(0),
        actor: Actor::Switchback,
        fact: Fact::Resumed,
    }];
    let consumed = [command.id];
    let decision = Commit { journal: &journal, consumed: &consumed, ..commit(&state) };
    assert_eq!(ledger.commit(&target, &lease("one"), 0, &decision).await.expect("committed"), 1);

    lossy_relay.lose_next("UpdateItem");
    ledger.release(&target, &lease("one")).await.expect("given back");

    lossy_relay.lose_next("TransactWriteItems");
    let (by, reason) = (Actor::Person { name: "ada".into() }, "the audit".to_owned());
    let brake = Brake { scope: Scope::Everything, by: by.clone(), reason, since: at(0), until: None };
    ledger.put_brake(&brake).await.expect("set");
    lossy_relay.lose_next("TransactWriteItems");
    let lifted = Lifted { by, reason: "it is over".into(), at: at(1) };
    assert_eq!(ledger.lift_brake(&Scope::Everything, &lifted).await.expect("lifted"), Some(brake), "it was on");
    assert_eq!(ledger.brake_log(10).await.expect("a log").len(), 2, "set once, lifted once");

    let (transaction, update) = ("TransactWriteItems", "UpdateItem");
    assert_eq!(lossy_relay.lost(), [update, transaction, transaction, update, transaction, transaction]);
    assert_eq!(ledger.commands(&target).await.expect("commands"), []);
    assert_eq!(ledger.journal(&target, 0, 10).await.expect("a journal"), journal);
    match ledger.acquire_lease(&target, &claim("two")).await.expect("an answer") {
        LeaseOutcome::Granted(loaded) => assert_eq!(loaded.revision, 1),
        held => panic!("it was given back: {held:?}"),
    }
}

/// A relay that hands a request on, and then cuts the connection instead of handing the answer back.
struct LossyRelay {
    address: SocketAddr,
    seen: Arc<Mutex<RelayState>>,
}

#[derive(Default)]
struct RelayState {
    /// The operation whose next answer is to be lost.
    lose: Option<&'static str>,
    /// The operations whose answers were lost.
    lost: Vec<&'static str>,
}

impl LossyRelay {
    async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(RelayState::default()));
        let relayed = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // A connection carries one request, and is cut whether its answer was handed back or not.
                let _ = relay(client, upstream, &relayed).await;
            }
        });
        Self { address, seen }
    }

    fn lose_next(&self, operation: &'static str) {
        self.seen.lock().expect("nobody panicked").lose = Some(operation);
    }

    fn lost(&self) -> Vec<&'static str> {
        self.seen.lock().expect("nobody panicked").lost.clone()
    }
}

async fn relay(mut client: TcpStream, upstream: SocketAddr, seen: &Mutex<RelayState>) -> std::io::Result<()> {
    let request = message(&mut client).await?;
    let mut server = TcpStream::connect(upstream).await?;
    server.write_all(&request).await?;
    let answer = message(&mut server).await?;
    let head = String::from_utf8_lossy(&request).into_owned();
    let lose = {
        let mut seen = seen.lock().expect("nobody panicked");
        let named = |operation: &&str| head.contains(&format!("DynamoDB_20120810.{operation}"));
        let lose = seen.lose.take_if(|operation| named(&&**operation));
        seen.lost.extend(lose);
        lose
    };
    if lose.is_none() {
        // Said, so that the SDK does not send its next request into a connection that is being closed.
        let first_line = answer.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        client.write_all(&[&answer[..first_line], b"connection: close\r\n", &answer[first_line..]].concat()).await?;
    }
    Ok(())
}

/// One HTTP/1.1 message with a content length, as it came.
pub(crate) async fn message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![];
    loop {
        if let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            if bytes.len() >= head + 4 + length.unwrap_or(0) {
                return Ok(bytes);
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}
