//! An application on threads of its own, which needs no runtime and allocates nothing for a request.
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

/// Answers each request, none of which has a body, with the same bytes, after `meanwhile` has seen its head.
pub fn application(answer: &'static [u8], meanwhile: impl Fn(&[u8]) + Copy + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || {
                let (mut stream, mut buffer, mut have) = (stream.unwrap(), [0; 16384], 0);
                while let Ok(read @ 1..) = stream.read(&mut buffer[have..]) {
                    have += read;
                    if buffer[..have].ends_with(b"\r\n\r\n") {
                        meanwhile(&buffer[..have]);
                        have = 0;
                        if stream.write_all(answer).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}
