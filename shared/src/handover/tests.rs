//! Both sides over real sockets; what a hostile or dying peer may do to the process that runs: nothing.

use std::fs::{self, Permissions};
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, sendmsg, socket_with,
};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::message::{self, Message, VERSION};
use super::*;

const EDGE: Identity<'static> = Identity { program: "edge", id: "edge-1" };
const LIMIT: Duration = Duration::from_secs(20);

/// A process that runs, with a listener of each role.
struct Running {
    folder: tempfile::TempDir,
    address: SocketAddr,
    control: Control,
}

fn bound(role: Role) -> Listener {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    Listener::bound(role, socket)
}

impl Running {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (public, admin) = (bound(Role::Listen), bound(Role::Admin));
        let address = public.socket.local_addr().unwrap();
        let control = Control::bind(&folder.path().join("c.sock"), EDGE, vec![public, admin]).unwrap();
        Self { folder, address, control }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("c.sock")
    }

    /// Whatever is done meanwhile, this process hears those who ask; nobody takes over.
    async fn while_it_hears<T>(&mut self, done: impl Future<Output = T>) -> T {
        tokio::select! {
            done = timeout(LIMIT, done) => done.unwrap(),
            _ = self.control.successor() => panic!("nobody may take over"),
        }
    }
}

fn ask(path: PathBuf, who: Identity<'static>) -> JoinHandle<Result<(Inherited, Predecessor), HandoverError>> {
    spawn_blocking(move || {
        let mut inherited = Inherited::default();
        let predecessor = inherit(&path, who, &mut inherited)?.expect("somebody listens there");
        Ok((inherited, predecessor))
    })
}

fn raw(path: &std::path::Path) -> OwnedFd {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    socket
}

fn send_raw(socket: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    let _ = sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL);
}

#[tokio::test]
async fn a_successor_accepts_what_was_queued_for_its_predecessor() {
    let mut running = Running::start();
    let mut client = TcpStream::connect(running.address).unwrap();
    client.write_all(b"hello").unwrap();
    let (path, address) = (running.path(), running.address);
    let (inherited, predecessor) = running.while_it_hears(ask(path, EDGE)).await.unwrap().unwrap();
    let taking = spawn_blocking(move || predecessor.take_over());
    let departure = timeout(LIMIT, running.control.successor()).await.unwrap();
    assert!(departure.is_awaited());
    drop(running.control);
    departure.release().await;
    taking.await.unwrap().unwrap();
    let mut inherited = inherited;
    let listener = inherited.take_or_bind(Role::Listen, address).unwrap();
    listener.socket.set_nonblocking(false).unwrap();
    let mut heard = [0; 5];
    listener.socket.accept().unwrap().0.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
    let elsewhere = inherited.take(Role::Admin, address).unwrap_err().to_string();
    assert!(elsewhere.contains("'admin' listens on") && elsewhere.contains("`admin_listen`"), "{elsewhere}");
}

#[tokio::test]
async fn a_second_successor_is_refused_by_name_and_served_once_the_first_has_gone() {
    let mut running = Running::start();
    let path = running.path();
    let first = running.while_it_hears(ask(path.clone(), EDGE)).await.unwrap().unwrap();
    let Err(refusal) = running.while_it_hears(ask(path.clone(), EDGE)).await.unwrap() else {
        panic!("one at a time");
    };
    assert!(refusal.to_string().contains("another process is taking over"), "{refusal}");
    drop(first);
    // When its end is noticed is not ours to say.
    let mut served = running.while_it_hears(ask(path.clone(), EDGE)).await.unwrap();
    while served.is_err() {
        served = running.while_it_hears(ask(path.clone(), EDGE)).await.unwrap();
    }
}

#[tokio::test]
async fn a_successor_that_dies_after_it_said_take_over_is_noticed() {
    let mut running = Running::start();
    let path = running.path();
    let (_, predecessor) = running.while_it_hears(ask(path.clone(), EDGE)).await.unwrap().unwrap();
    predecessor.say_take_over_and_die();
    let departure = timeout(LIMIT, running.control.successor()).await.unwrap();
    assert!(!departure.is_awaited());
    drop(departure);
    running.while_it_hears(ask(path, EDGE)).await.unwrap().unwrap();
}

#[tokio::test]
async fn strangers_and_other_versions_are_told_why() {
    let mut running = Running::start();
    let path = running.path();
    for who in [Identity { id: "edge-2", ..EDGE }, Identity { program: "coordinator", ..EDGE }] {
        let Err(refusal) = running.while_it_hears(ask(path.clone(), who)).await.unwrap() else {
            panic!("{who:?} is another");
        };
        assert!(refusal.to_string().contains("it is edge 'edge-1'"), "{refusal}");
    }
    let socket = raw(&path);
    send_raw(&socket, br#"{"ask":{"version":2,"program":"edge","id":"edge-1","more":[]}}"#, &[]);
    let heard = running.while_it_hears(spawn_blocking(move || message::receive(&socket))).await;
    let (Message::Refused { reason }, None) = heard.unwrap().unwrap().message().unwrap() else {
        panic!("it is refused");
    };
    assert!(reason.contains("version 1") && reason.contains("version 2"), "{reason}");
}

#[tokio::test]
async fn garbage_changes_nothing() {
    let mut running = Running::start();
    let path = running.path();
    let ask_text = serde_json::to_vec(&Message::Ask {
        version: VERSION,
        program: "edge".to_owned(),
        id: "edge-1".to_owned(),
    })
    .unwrap();
    let own = TcpListener::bind("127.0.0.1:0").unwrap();
    let (one, many) = (vec![own.as_fd()], vec![own.as_fd(); 16]);
    let long = vec![b'['; 100_000];
    let packets: [(&[u8], &[BorrowedFd<'_>]); 9] = [
        (b"", &[]),
        (b"\0", &[]),
        (b"GET / HTTP/1.1\r\n\r\n", &[]),
        (b"\"take_over\"", &[]),
        (b"\"released\"", &[]),
        (b"{\"listener\":{\"role\":\"listen\",\"kept\":true}}", &one),
        (&ask_text, &one),
        (&ask_text, &many),
        (&long, &[]),
    ];
    for (bytes, descriptors) in packets {
        let socket = raw(&path);
        send_raw(&socket, bytes, descriptors);
        let heard = running.while_it_hears(spawn_blocking(move || message::receive(&socket))).await;
        let answer = heard.unwrap().unwrap().message();
        assert!(!matches!(answer, Ok((Message::Listener { .. }, _))), "{:?}", String::from_utf8_lossy(bytes));
    }
    // Those that say nothing do not keep others out.
    let silent: Vec<_> = (0..4).map(|_| raw(&path)).collect();
    running.while_it_hears(ask(path, EDGE)).await.unwrap().unwrap();
    drop(silent);
}

#[tokio::test]
async fn a_hostile_predecessor_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.sock");
    let bound = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    rustix::net::bind(&bound, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&bound, 4).unwrap();
    let file = fs::File::open("/dev/null").unwrap();
    let connected = TcpStream::connect(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let connected = connected.unwrap();
    let unix = StdUnixListener::bind(folder.path().join("other.sock")).unwrap();
    let listener = Message::Listener { role: Role::Listen, kept: false };
    let table = [
        (&listener, Some(file.as_fd()), "no listening TCP socket"),
        (&listener, Some(connected.as_fd()), "no listening TCP socket"),
        (&listener, Some(unix.as_fd()), "no listening TCP socket"),
        (&listener, None, "no message"),
        (&Message::Complete { count: 0 }, None, "out of turn"),
        (&Message::Complete { count: 7 }, None, "out of turn"),
        (&Message::Released, None, "out of turn"),
    ];
    for (answer, descriptor, expected) in table {
        let asked = ask(path.clone(), EDGE);
        let talk = rustix::net::accept(&bound).unwrap();
        message::send(&talk, answer, descriptor).unwrap();
        let fault = asked.await.unwrap().map(drop).unwrap_err().to_string();
        assert!(fault.contains(expected), "{answer:?}: {fault}");
    }
}

#[tokio::test]
async fn a_socket_that_was_left_behind_is_replaced_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run").join("c.sock");
    let ask_here = |path: &std::path::Path| inherit(path, EDGE, &mut Inherited::default());
    assert!(ask_here(&path).unwrap().is_none(), "nobody was there");
    drop(Control::bind(&path, EDGE, vec![bound(Role::Listen)]).unwrap());
    assert!(ask_here(&path).unwrap().is_none(), "nobody is there any more");
    drop(Control::bind(&path, EDGE, vec![bound(Role::Listen)]).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "a file").unwrap();
    let fault = ask_here(&path).unwrap_err().to_string();
    assert!(fault.contains("is no socket"), "{fault}");
    assert!(Control::bind(&path, EDGE, vec![bound(Role::Listen)]).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "a file");
    fs::remove_file(&path).unwrap();
    fs::set_permissions(path.parent().unwrap(), Permissions::from_mode(0o777)).unwrap();
    let fault = ask_here(&path).unwrap_err().to_string();
    assert!(fault.contains("others may write") && fault.contains("0777"), "{fault}");
}

/// The system's: one of root's own is not everybody's to run.
const PYTHON: &str = "/usr/bin/python3";
/// What another user's process hears when it asks, by a socket that is open to everybody.
const FOREIGN: &str = r#"
import socket, sys
talk = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
talk.connect(sys.argv[1])
try:
    talk.send(b'{"ask":{"version":1,"program":"edge","id":"edge-1"}}')
    heard, descriptors, _, _ = socket.recv_fds(talk, 4096, 4)
    print(len(descriptors))
except (BrokenPipeError, ConnectionResetError):
    print(0)
"#;

#[tokio::test]
async fn another_users_process_is_given_nothing() {
    if !rustix::process::geteuid().is_root() || !std::path::Path::new(PYTHON).exists() {
        eprintln!("not run: to be another user takes root's rights, and {PYTHON}");
        return;
    }
    let mut running = Running::start();
    let path = running.path();
    fs::set_permissions(running.folder.path(), Permissions::from_mode(0o711)).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    for (user, descriptors) in [("0", "1\n"), ("65534", "0\n")] {
        let path = path.clone();
        let asked = spawn_blocking(move || {
            std::process::Command::new("setpriv")
                .args(["--reuid", user, "--regid", user, "--clear-groups", PYTHON, "-c", FOREIGN])
                .arg(path)
                .output()
        });
        let output = running.while_it_hears(asked).await.unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), descriptors, "{user}: {output:?}");
    }
}
