//! A proxy in front of a cluster that speaks Kafka: a broken network, and a broker that offers less.
//!
//! Brokers tell clients where they are, so a proxy of bytes is left behind after the first answer. This one has a listener
//! for each broker that it hears of, and writes these into the answers to `Metadata` and `FindCoordinator`. Everything
//! else passes undecoded.
//!
//! ```no_run
//! use anabranch_testkit::kafka_proxy::{ApiKey, Caps, KafkaProxy, Net};
//!
//! # async fn example() -> std::io::Result<()> {
//! let proxy = KafkaProxy::start("127.0.0.1:9092", Caps::Full, 42)?;
//! // Clients use `proxy.address()`. One acknowledgement in a hundred is lost after the broker has done its part:
//! proxy.lose_share(&[ApiKey::Produce, ApiKey::EndTxn], 0.01);
//! proxy.cut_one(); // one connection, at random
//! proxy.set(Net::Silent); // all of them
//! proxy.set(Net::Up);
//! # Ok(())
//! # }
//! ```

mod answers;
mod caps;
mod connection;
mod faults;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::watch;

pub use caps::Caps;
pub use kafka_protocol::messages::ApiKey;

use faults::Book;

/// The most brokers of one cluster, so that a lying answer cannot take all ports.
const MAX_BROKERS: usize = 64;

/// How it is with the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Net {
    /// All passes.
    Up,
    /// Connections break, and new ones are closed at once.
    Cut,
    /// Connections stay and new ones are taken, but nothing comes through until the network is up again.
    Silent,
}

#[derive(Debug, Clone, Copy)]
struct Weather {
    net: Net,
    /// How often all connections were cut.
    cuts: u64,
    /// Connections before this one are silent for good.
    buried: u64,
    over: bool,
}

struct Shared {
    caps: Caps,
    weather: watch::Sender<Weather>,
    book: Mutex<Book>,
    /// The port of each broker's listener, by the broker's address.
    listeners: Mutex<HashMap<String, u16>>,
    /// For listeners that are made while an answer passes.
    itself: std::sync::Weak<Shared>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The port of a broker's listener, which is made when it is first asked for.
    fn listener(&self, host: &str, port: i32) -> io::Result<i32> {
        self.listen_for(format!("{host}:{port}")).map(i32::from)
    }

    fn listen_for(&self, upstream: String) -> io::Result<u16> {
        let mut listeners = lock(&self.listeners);
        if let Some(port) = listeners.get(&upstream) {
            return Ok(*port);
        }
        if listeners.len() >= MAX_BROKERS {
            return Err(io::Error::other(format!("more than {MAX_BROKERS} brokers")));
        }
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let port = listener.local_addr()?.port();
        let shared = self.itself.upgrade().ok_or_else(|| io::Error::other("the proxy is gone"))?;
        tokio::spawn(accept(shared, listener, Arc::from(upstream.as_str())));
        listeners.insert(upstream, port);
        Ok(port)
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, upstream: Arc<str>) {
    let mut weather = shared.weather.subscribe();
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = weather.wait_for(|weather| weather.over) => return,
        };
        match client {
            Ok((client, _)) => {
                tokio::spawn(connection::serve(shared.clone(), upstream.clone(), client));
            }
            Err(error) => {
                tracing::warn!(%error, "the proxy cannot take a connection");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

/// Ends the listeners and connections with the last handle.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.weather.send_modify(|weather| weather.over = true);
    }
}

/// The proxy; clones share it. It ends with its last handle, or with the runtime it was started in.
#[derive(Clone)]
pub struct KafkaProxy {
    handle: Arc<Handle>,
    port: u16,
}

impl KafkaProxy {
    /// Listens on a free loopback port for the cluster at `upstream` (`host:port` of one broker), which may be away. What is
    /// lost or cut at random derives from `seed`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If no port can be had.
    pub fn start(upstream: &str, caps: Caps, seed: u64) -> io::Result<Self> {
        let shared = Arc::new_cyclic(|itself| Shared {
            caps,
            weather: watch::Sender::new(Weather { net: Net::Up, cuts: 0, buried: 0, over: false }),
            book: Mutex::new(Book::new(seed)),
            listeners: Mutex::default(),
            itself: itself.clone(),
        });
        let port = shared.listen_for(upstream.to_owned())?;
        Ok(Self { handle: Arc::new(Handle(shared)), port })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.handle.0.book)
    }

    /// `host:port` for clients.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What the cluster is made to offer.
    pub fn caps(&self) -> Caps {
        self.handle.0.caps
    }

    /// Changes the network, for open connections too.
    pub fn set(&self, net: Net) {
        self.handle.0.weather.send_modify(|weather| {
            weather.net = net;
            weather.cuts += u64::from(net == Net::Cut);
        });
    }

    /// All connections break; new ones are made at once.
    pub fn blink(&self) {
        self.set(Net::Cut);
        self.set(Net::Up);
    }

    /// Nothing comes through the connections of now any more, and nobody is told: as when a host is gone, or a firewall
    /// forgets them. New ones are as the network is.
    pub fn bury(&self) {
        let first = self.book().next();
        self.handle.0.weather.send_modify(|weather| weather.buried = first);
    }

    /// One connection breaks, chosen at random. `false`: there is none.
    pub fn cut_one(&self) -> bool {
        self.book().cut_one()
    }

    /// The next `times` answers to an API are lost, and their connections with them. The broker has done its part.
    pub fn lose_answers(&self, api: ApiKey, times: u32) {
        self.book().lose(api as i16, times);
    }

    /// From now on each answer to one of these APIs is lost with this probability, between 0 and 1, and its connection with
    /// it. The broker has done its part.
    pub fn lose_share(&self, apis: &[ApiKey], share: f64) {
        for api in apis {
            self.book().lose_share(*api as i16, share.clamp(0.0, 1.0));
        }
    }

    /// The next `times` requests of an API break their connection, and the broker hears nothing of them.
    pub fn cut_requests(&self, api: ApiKey, times: u32) {
        self.book().cut(api as i16, times);
    }

    /// The next requests of an API are answered with these codes, and the broker hears nothing of them. Known are
    /// Produce and what belongs to transactions; the connection of another breaks.
    pub fn refuse(&self, api: ApiKey, codes: &[i16]) {
        self.book().refuse(api as i16, codes);
    }

    /// Requests still to be cut or refused.
    pub fn to_refuse(&self, api: ApiKey) -> usize {
        self.book().to_refuse(api as i16)
    }

    /// Answers still to be lost by [`lose_answers`](Self::lose_answers).
    pub fn to_lose(&self, api: ApiKey) -> u32 {
        self.book().to_lose(api as i16)
    }

    /// How many answers were lost so far, by API.
    pub fn lost(&self) -> BTreeMap<i16, u64> {
        self.book().lost()
    }

    /// Requests seen so far, by API.
    pub fn requests(&self) -> BTreeMap<i16, u64> {
        self.book().requests()
    }

    /// The lowest and the highest version asked for so far, by API.
    pub fn versions(&self) -> BTreeMap<i16, (i16, i16)> {
        self.book().versions()
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.book().open()
    }

    /// The brokers it stands before: the cluster's own addresses, with those of the listeners.
    pub fn listeners(&self) -> BTreeMap<String, String> {
        let listeners = lock(&self.handle.0.listeners);
        listeners.iter().map(|(broker, port)| (broker.clone(), format!("127.0.0.1:{port}"))).collect()
    }
}
