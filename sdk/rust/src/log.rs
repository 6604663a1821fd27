//! Lines in the broker's log, with the plugin's name on them; natively, lines on the standard error stream.

#[cfg(target_family = "wasm")]
use crate::bindings::partitioner::tidegate::plugin::log::{Level, write};

macro_rules! levels {
    ($($name:ident => $level:ident),*) => {$(
        #[doc = concat!("One line of level `", stringify!($name), "`: at most 1 KiB, at most 100 lines a second.")]
        pub fn $name(message: &str) {
            #[cfg(target_family = "wasm")]
            write(Level::$level, message, &[]);
            #[cfg(not(target_family = "wasm"))]
            eprintln!("{} {message}", stringify!($level));
        }
    )*};
}

levels!(debug => Debug, info => Info, warn => Warn, error => Error);
