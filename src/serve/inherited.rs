//! Listening sockets that the process was given: by systemd's socket activation, or by the process before it.
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Who gave the sockets, as the log and messages name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Giver {
    /// systemd, or whatever else speaks its protocol (sd_listen_fds(3)).
    Systemd,
    /// The process that this one replaces.
    Predecessor,
}

impl Giver {
    /// The word for it in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Giver::Systemd => "systemd",
            Giver::Predecessor => "predecessor",
        }
    }
}

/// A socket with the name that came along: `FileDescriptorName=` of the socket unit, or the listener of the predecessor.
#[derive(Debug)]
pub struct Given {
    /// That name; anything, where the unit gives none.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// The socket.
    pub socket: TcpListener,
}

/// The sockets that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Inherited {
    giver: Option<Giver>,
    given: Vec<Given>,
}

impl Inherited {
    /// No sockets: every listener opens its own.
    pub fn none() -> Inherited {
        Inherited::default()
    }

    /// These sockets.
    pub fn new(giver: Giver, given: Vec<Given>) -> Inherited {
        Inherited { giver: Some(giver), given }
    }

    /// What `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES` promise (sd_listen_fds(3)), or what is wrong with it. Takes
    /// the variables out of the environment, so it must be called once, and before there are other threads.
    pub fn from_environment() -> Result<Inherited, String> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut descriptors = listenfd::ListenFd::from_env();
        if descriptors.len() == 0 {
            return Ok(Inherited::none());
        }
        let mut names = names.split(':');
        let mut given = Vec::with_capacity(descriptors.len());
        for index in 0..descriptors.len() {
            // What systemd calls a socket without a name.
            let name = names.next().filter(|name| !name.is_empty()).unwrap_or("unknown").to_owned();
            let fault = |why: String| format!("the socket `{name}` that systemd passed cannot be used: {why}");
            let socket = descriptors.take_tcp_listener(index).map_err(|error| fault(error.to_string()))?;
            let socket = socket.ok_or_else(|| fault("it is not there".to_owned()))?;
            let (address, socket) = ready(socket).map_err(|error| fault(error.to_string()))?;
            given.push(Given { name, address, socket });
        }
        Ok(Inherited::new(Giver::Systemd, given))
    }

    /// The socket for a listener: the one of its name, or one of another name that listens where it should. Port 0 in
    /// `wanted` is content with any port. A socket of its name that listens elsewhere is refused where systemd gave it:
    /// two files say two things. A predecessor's is left alone then, since the configuration has changed.
    pub fn take(&mut self, name: &str, wanted: SocketAddr) -> Result<Option<TcpListener>, String> {
        let fits =
            |given: &Given| given.address.ip() == wanted.ip() && [0, given.address.port()].contains(&wanted.port());
        let named = self.given.iter().position(|given| given.name == name);
        if let Some(other) = named.and_then(|at| self.given.get(at)).filter(|given| !fits(given))
            && self.giver == Some(Giver::Systemd)
        {
            return Err(format!(
                "systemd passed a socket of this name that listens on `{}`, not on `{wanted}`: \
                 `ListenStream=` of the socket unit and `listeners.{name}.address` must agree",
                other.address
            ));
        }
        let at = named.filter(|at| self.given.get(*at).is_some_and(fits)).or_else(|| {
            // A port of the system's choice says nothing about whose it is.
            self.given.iter().position(|given| wanted.port() != 0 && fits(given))
        });
        Ok(at.map(|at| self.given.swap_remove(at)).map(|given| {
            let giver = self.giver.map_or("", Giver::as_str);
            tracing::info!(listener = name, address = %given.address, giver, "took a socket that was open already");
            given.socket
        }))
    }

    /// Closes what nobody took. Sockets of systemd that belong to no listener are a mistake in a unit or in the
    /// configuration: clients would connect and never be answered.
    pub fn finish(self) -> Result<(), String> {
        match self.giver {
            Some(Giver::Systemd) if !self.given.is_empty() => {
                let left: Vec<_> =
                    self.given.iter().map(|given| format!("`{}` ({})", given.name, given.address)).collect();
                Err(format!(
                    "systemd passed sockets that belong to no listener: {}; `FileDescriptorName=` must be the name of \
                     a listener, or `admin`, or `ListenStream=` its address",
                    left.join(", ")
                ))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Makes sure that a socket listens, and that accepting from it never blocks a thread.
pub(crate) fn ready(socket: TcpListener) -> io::Result<(SocketAddr, TcpListener)> {
    if !rustix::net::sockopt::socket_acceptconn(&socket)? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen"));
    }
    socket.set_nonblocking(true)?;
    Ok((socket.local_addr()?, socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(giver: Giver, names: &[&str]) -> (Inherited, Vec<SocketAddr>) {
        let one = |name: &&str| {
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            Given { name: (*name).to_owned(), address: socket.local_addr().unwrap(), socket }
        };
        let given: Vec<_> = names.iter().map(one).collect();
        let addresses = given.iter().map(|given| given.address).collect();
        (Inherited::new(giver, given), addresses)
    }

    #[test]
    fn a_socket_is_taken_by_name_or_by_address_and_once() {
        let (mut sockets, addresses) = given(Giver::Systemd, &["public", "moat.socket", "admin"]);
        let any = "127.0.0.1:0".parse().unwrap();
        let taken = |socket: Option<TcpListener>| socket.map(|socket| socket.local_addr().unwrap());
        assert_eq!(taken(sockets.take("public", any).unwrap()), Some(addresses[0]), "the system chose the port");
        assert_eq!(
            taken(sockets.take("plain", addresses[1]).unwrap()),
            Some(addresses[1]),
            "another name, its address"
        );
        assert_eq!(taken(sockets.take("public", any).unwrap()), None);
        assert_eq!(taken(sockets.take("admin", addresses[2]).unwrap()), Some(addresses[2]));
        sockets.finish().unwrap();
    }

    #[test]
    fn what_two_files_disagree_about_is_refused() {
        let (mut sockets, addresses) = given(Giver::Systemd, &["public", "pubilc"]);
        let elsewhere = "127.0.0.2:0".parse().unwrap();
        let told = sockets.take("public", elsewhere).unwrap_err();
        assert!(told.contains(&addresses[0].to_string()) && told.contains("listeners.public.address"), "{told}");
        let told = sockets.finish().unwrap_err();
        assert!(told.contains(&format!("`pubilc` ({})", addresses[1])), "{told}");
    }

    #[test]
    fn a_predecessor_s_socket_is_left_where_the_configuration_moved_on() {
        let (mut sockets, _) = given(Giver::Predecessor, &["public"]);
        assert!(sockets.take("public", "127.0.0.2:0".parse().unwrap()).unwrap().is_none());
        sockets.finish().unwrap();
    }

    #[test]
    fn a_socket_that_does_not_listen_is_refused() {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        assert!(ready(socket.into()).unwrap_err().to_string().contains("does not listen"));
    }
}
