//! The line between two processes: frames, descriptors, and who may speak.
use super::wire::{Content, Line, Message};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

fn pair() -> (Line, Line) {
    let (left, right) = UnixStream::pair().unwrap();
    let line = |stream| Line::new(stream, Duration::from_secs(5)).unwrap();
    (line(left), line(right))
}

#[test]
fn a_socket_that_is_passed_is_the_same_socket() {
    let (mut old, mut new) = pair();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let message = Message::Sockets { names: vec!["public".to_owned()], more: false };
    old.pass(&message, &[socket.as_fd()]).unwrap();
    // The client is in the accept queue before the new process has the socket, and the old one closes it then.
    let client = std::net::TcpStream::connect(address).unwrap();
    drop(socket);
    let (heard, descriptors) = new.hear().unwrap();
    assert_eq!((heard, descriptors.len()), (message, 1));
    let taken = TcpListener::from(descriptors.into_iter().next().unwrap());
    assert_eq!(taken.accept().unwrap().1, client.local_addr().unwrap());
}

#[test]
fn what_the_other_side_says_has_failed_is_an_error_with_its_words() {
    let (mut old, mut new) = pair();
    new.say(&Message::Failed { reason: "no usable key set".to_owned() }).unwrap();
    assert_eq!(old.hear().unwrap_err().to_string(), "no usable key set");
    drop(new);
    assert_eq!(old.hear().unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}

#[test]
fn frames_of_another_kind_or_size_are_refused() {
    use std::io::Write;
    for bytes in [&b"x\0\0\0\0"[..], b"m\xff\xff\xff\xff", b"m\0\0\0\x02{}", b"r\0\0\0\0"] {
        let (left, mut right) = UnixStream::pair().unwrap();
        let mut line = Line::new(left, Duration::from_secs(5)).unwrap();
        right.write_all(bytes).unwrap();
        assert!(line.hear().is_err(), "{bytes:?}");
    }
}

#[test]
fn the_other_end_is_known_to_the_kernel_and_frames_may_be_large() {
    let (mut old, mut new) = pair();
    assert_eq!(old.peer().unwrap(), (rustix::process::geteuid().as_raw(), i32::try_from(std::process::id()).unwrap()));
    let payload = vec![7; 3 << 20];
    let sending = std::thread::spawn(move || {
        old.send(Content::Delivery, &payload, &[]).unwrap();
        payload
    });
    let (content, heard, _) = new.receive().unwrap();
    assert_eq!(content, Content::Delivery);
    assert_eq!(heard, sending.join().unwrap());
}
