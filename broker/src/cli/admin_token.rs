//! The admin token that a command finds by itself, for a broker on this machine.
//!
//! A broker answers a call without its token by telling where that lies. A command takes it from there only when the file's
//! owner is the one who listens on the port: whoever else took the port of a broker that is not running must not be handed
//! the token, nor any other file of the caller's.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

use super::CliError;

/// Longer than any token, and short enough to be read at once.
const MAX_BYTES: u64 = 4096;
/// What the kernel writes for a socket that listens.
const LISTENING: &str = "0A";

/// The token in `path`, of the broker that listens on `address`.
pub fn of_listener(path: &Path, address: SocketAddr) -> Result<String, CliError> {
    let shown = path.display();
    let told = |reason: String| {
        CliError::new(format!(
            "this call needs the admin token, which lies in {shown}: {reason}\n  run the command as the broker's user, or pass --token-file FILE"
        ))
    };
    let file = open(path).map_err(|error| told(error.to_string()))?;
    let metadata = file.metadata().map_err(|error| told(error.to_string()))?;
    if !metadata.is_file() {
        return Err(told("it is no regular file".to_owned()));
    }
    let owners = listeners_of(address)
        .ok_or_else(|| told("who listens on the port cannot be told on this system".to_owned()))?;
    if owners.is_empty()
        || owners
            .iter()
            .any(|owner| ![0, metadata.uid()].contains(owner))
    {
        return Err(told(format!(
            "it belongs to another user than the one who listens on {address}, and is not sent there"
        )));
    }
    let mut text = String::new();
    file.take(MAX_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| told(error.to_string()))?;
    Ok(text.trim().to_owned())
}

/// Does not wait where the path is a pipe.
fn open(path: &Path) -> std::io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Users with a socket that listens on the address; `None` where the system does not tell.
fn listeners_of(address: SocketAddr) -> Option<Vec<u32>> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let texts: Vec<String> = tables
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .collect();
    let owners = texts.iter().flat_map(|text| owners(text, address));
    (!texts.is_empty()).then(|| owners.collect())
}

/// As the kernel writes them: `sl local_address rem_address st tx:rx tr:when retrnsmt uid …`, addresses as words in the
/// machine's own order of bytes.
fn owners(table: &str, address: SocketAddr) -> impl Iterator<Item = u32> {
    let port = format!("{:04X}", address.port());
    let ip = hexadecimal(address.ip());
    let owner = move |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, uid) = (fields.get(1)?, fields.get(3)?, fields.get(7)?);
        let (local_ip, local_port) = local.split_once(':')?;
        let any = local_ip.bytes().all(|byte| byte == b'0');
        let matches = local_port == port && (any || local_ip == ip) && *state == LISTENING;
        matches.then(|| uid.parse().ok())?
    };
    table
        .lines()
        .filter_map(owner)
        .collect::<Vec<u32>>()
        .into_iter()
}

fn hexadecimal(ip: IpAddr) -> String {
    let bytes = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let word = |word: &[u8]| {
        let word = <[u8; 4]>::try_from(word).unwrap_or_default();
        format!("{:08X}", u32::from_ne_bytes(word))
    };
    bytes.chunks(4).map(word).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_kernels_table_tells_who_listens() {
        let zero = "00000000";
        let local = hexadecimal([127, 0, 0, 1].into());
        let line = |ip: &str, port: &str, state: &str, uid: u32| {
            format!(
                "   0: {ip}:{port} {zero}:0000 {state} 00000000:00000000 00:00000000 00000000  {uid}        0 4711 1\n"
            )
        };
        let table = [
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n".to_owned(),
            line(&local, "25AC", "0A", 1000),
            line(zero, "25AC", "0A", 1001),
            // A connection, another port, another address.
            line(&local, "25AC", "01", 1002),
            line(&local, "25AD", "0A", 1003),
            line(&hexadecimal([127, 0, 0, 2].into()), "25AC", "0A", 1004),
        ]
        .concat();
        let address = SocketAddr::from(([127, 0, 0, 1], 9644));
        let found: Vec<u32> = owners(&table, address).collect();
        assert_eq!(found, [1000, 1001]);
    }

    #[test]
    fn a_token_goes_to_its_owners_listener_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("admin.token");
        std::fs::write(&path, "0123456789abcdef\n").expect("written");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        if !Path::new("/proc/net/tcp").exists() {
            let error = of_listener(&path, address).expect_err("nobody tells");
            assert!(error.to_string().contains("cannot be told"), "{error}");
            return;
        }
        let token = of_listener(&path, address).expect("it is ours");
        assert_eq!(token, "0123456789abcdef");
        drop(listener);
        let error = of_listener(&path, address).expect_err("nobody listens");
        assert!(error.to_string().contains("is not sent there"), "{error}");
        let error = of_listener(&folder.path().join("none"), address).expect_err("no file");
        let error = error.to_string();
        assert!(
            error.contains("which lies in") && error.contains("--token-file"),
            "{error}"
        );
    }
}
