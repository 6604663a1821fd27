//! Where an exported plugin lives between calls: made by `init`, used by every call after it.

use std::cell::RefCell;
use std::thread::LocalKey;

#[cfg(target_family = "wasm")]
use crate::bindings::partitioner::tidegate::plugin::config;
use crate::config::Config;

pub type Slot<P> = LocalKey<RefCell<Option<P>>>;

/// Implemented by the export macros.
pub trait Installed: Sized + 'static {
    fn slot() -> &'static Slot<Self>;
}

pub(crate) fn config() -> Config {
    #[cfg(target_family = "wasm")]
    return Config::from_iter(config::get_all());
    #[cfg(not(target_family = "wasm"))]
    return Config::default();
}

pub(crate) fn install<P: Installed>(plugin: P) {
    P::slot().with_borrow_mut(|slot| *slot = Some(plugin));
}

pub(crate) fn with<P: Installed, R>(call: impl FnOnce(&P) -> R) -> R {
    P::slot().with_borrow(|slot| call(slot.as_ref().expect("the host calls init first")))
}

/// Makes `$plugin` the plugin of its component.
#[doc(hidden)]
#[macro_export]
macro_rules! install {
    ($plugin:ty) => {
        impl $crate::instance::Installed for $plugin {
            fn slot() -> &'static $crate::instance::Slot<Self> {
                ::std::thread_local! {
                    static SLOT: ::std::cell::RefCell<::std::option::Option<$plugin>> =
                        const { ::std::cell::RefCell::new(::std::option::Option::None) };
                }
                &SLOT
            }
        }
    };
}
