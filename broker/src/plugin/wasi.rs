//! What a language's standard library expects of WASI 0.2, answered the same on every machine: no arguments, no environment,
//! clocks that stand still, randomness that is none. Standard output and error become the plugin's log. Everything else (files,
//! terminals, polling) may be imported and traps when it is called.

use wasmtime::component::{ComponentType, Lift, Linker, LinkerInstance, Lower, Resource};
use wasmtime::{StoreContextMut, bail};

use super::bindings::LogLevel;
use super::host::GuestState;

/// Packages whose interfaces a component may import; sockets and HTTP are not among them.
const PACKAGES: [&str; 5] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:io/",
    "wasi:random/",
];
const VERSION: &str = "0.2.";
/// Room that a stream always has.
const STREAM_ROOM: u64 = 4096;
const MAX_RANDOM_BYTES: u64 = 64 << 10;
/// What stands for randomness.
const SEED: u64 = 0x5eed_5eed_5eed_5eed;

const STDOUT: u32 = 1;
const STDERR: u32 = 2;
const POLLABLE: u32 = 3;

/// Every resource of the shim, whatever interface names it: a number without anything behind it. Those that the linker makes up
/// for interfaces that are not answered here are of this type too, so that they agree wherever one interface uses another's.
type Handle = Resource<()>;

#[derive(ComponentType, Lower, Lift)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    #[allow(dead_code, reason = "a case of the interface; printing never fails")]
    LastOperationFailed(Handle),
    #[component(name = "closed")]
    #[allow(dead_code, reason = "a case of the interface; printing never fails")]
    Closed,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

type Context<'a> = StoreContextMut<'a, GuestState>;
type StreamResult<T> = wasmtime::Result<(Result<T, StreamError>,)>;
type Instance<'a> = LinkerInstance<'a, GuestState>;

fn interface(import: &str) -> Option<&str> {
    let (name, version) = import.split_once('@')?;
    (version.starts_with(VERSION) && PACKAGES.iter().any(|package| name.starts_with(package)))
        .then_some(name)
}

/// Whether a component may import this.
pub fn offers(import: &str) -> bool {
    interface(import).is_some()
}

/// Offers what is answered of an interface, under the name (with its version) that the component imports.
pub fn link(linker: &mut Linker<GuestState>, import: &str) -> wasmtime::Result<()> {
    let mut instance = linker.instance(import)?;
    let instance = &mut instance;
    match interface(import) {
        Some("wasi:cli/environment") => environment(instance),
        Some("wasi:cli/exit") => exit(instance),
        Some("wasi:cli/stdout") => standard(instance, "get-stdout", STDOUT),
        Some("wasi:cli/stderr") => standard(instance, "get-stderr", STDERR),
        Some("wasi:io/poll") => poll(instance),
        Some("wasi:io/streams") => streams(instance),
        Some("wasi:clocks/wall-clock") => wall_clock(instance),
        Some("wasi:clocks/monotonic-clock") => monotonic_clock(instance),
        Some("wasi:random/random") => random(instance, "get-random-bytes", "get-random-u64"),
        Some("wasi:random/insecure") => random(
            instance,
            "get-insecure-random-bytes",
            "get-insecure-random-u64",
        ),
        Some("wasi:random/insecure-seed") => instance
            .func_wrap("insecure-seed", |_: Context<'_>, (): ()| {
                Ok(((SEED, !SEED),))
            }),
        _ => Ok(()),
    }
}

fn environment(instance: &mut Instance<'_>) -> wasmtime::Result<()> {
    instance.func_wrap("get-environment", |_: Context<'_>, (): ()| {
        Ok((Vec::<(String, String)>::new(),))
    })?;
    instance.func_wrap("get-arguments", |_: Context<'_>, (): ()| {
        Ok((Vec::<String>::new(),))
    })?;
    instance.func_wrap("initial-cwd", |_: Context<'_>, (): ()| {
        Ok((None::<String>,))
    })
}

fn exit(instance: &mut Instance<'_>) -> wasmtime::Result<()> {
    instance.func_wrap(
        "exit",
        |_: Context<'_>, _: (Result<(), ()>,)| -> wasmtime::Result<()> {
            bail!("the plugin called exit")
        },
    )
}

fn standard(instance: &mut Instance<'_>, function: &str, stream: u32) -> wasmtime::Result<()> {
    instance.func_wrap(function, move |_: Context<'_>, (): ()| {
        Ok((Handle::new_own(stream),))
    })
}

fn streams(instance: &mut Instance<'_>) -> wasmtime::Result<()> {
    instance.func_wrap(
        "[method]output-stream.check-write",
        |_: Context<'_>, _: (Handle,)| -> StreamResult<u64> { Ok((Ok(STREAM_ROOM),)) },
    )?;
    instance.func_wrap(
        "[method]output-stream.subscribe",
        |_: Context<'_>, _: (Handle,)| Ok((Handle::new_own(POLLABLE),)),
    )?;
    for write in ["write", "blocking-write-and-flush"] {
        instance.func_wrap(
            &format!("[method]output-stream.{write}"),
            |mut context: Context<'_>, (stream, bytes): (Handle, Vec<u8>)| -> StreamResult<()> {
                let level = if stream.rep() == STDERR {
                    LogLevel::Warn
                } else {
                    LogLevel::Info
                };
                context.data_mut().print(level, &bytes);
                Ok((Ok(()),))
            },
        )?;
    }
    for flush in ["flush", "blocking-flush"] {
        instance.func_wrap(
            &format!("[method]output-stream.{flush}"),
            |_: Context<'_>, _: (Handle,)| -> StreamResult<()> { Ok((Ok(()),)) },
        )?;
    }
    Ok(())
}

/// Writing is always possible, so that nothing is ever waited for.
fn poll(instance: &mut Instance<'_>) -> wasmtime::Result<()> {
    instance.func_wrap("[method]pollable.block", |_: Context<'_>, _: (Handle,)| {
        Ok(())
    })?;
    instance.func_wrap("[method]pollable.ready", |_: Context<'_>, _: (Handle,)| {
        Ok((true,))
    })
}

fn wall_clock(instance: &mut Instance<'_>) -> wasmtime::Result<()> {
    for function in ["now", "resolution"] {
        instance.func_wrap(function, |_: Context<'_>, (): ()| {
            Ok((Datetime {
                seconds: 0,
                nanoseconds: 0,
            },))
        })?;
    }
    Ok(())
}

fn monotonic_clock(instance: &mut Instance<'_>) -> wasmtime::Result<()> {
    for function in ["now", "resolution"] {
        instance.func_wrap(function, |_: Context<'_>, (): ()| Ok((1u64,)))?;
    }
    Ok(())
}

fn random(instance: &mut Instance<'_>, bytes: &str, number: &str) -> wasmtime::Result<()> {
    instance.func_wrap(bytes, |_: Context<'_>, (count,): (u64,)| {
        if count > MAX_RANDOM_BYTES {
            bail!("the plugin asked for {count} random bytes");
        }
        let pattern = SEED.to_le_bytes();
        let bytes: Vec<u8> = pattern.into_iter().cycle().take(count as usize).collect();
        Ok((bytes,))
    })?;
    instance.func_wrap(number, |_: Context<'_>, (): ()| Ok((SEED,)))
}
