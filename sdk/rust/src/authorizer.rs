//! The world `authorizer`: may this principal do that?

use std::marker::PhantomData;

use crate::CallError;
use crate::bindings::authorizer::exports::tidegate::plugin::authorization::Guest;
use crate::config::Config;
use crate::instance::{Installed, config, install, with};

pub use crate::bindings::authorizer::exports::tidegate::plugin::authorization::{
    Action, Decision, Principal, Verdict,
};

/// A function from a principal and an action to a decision. Export it with [`export_authorizer!`](crate::export_authorizer).
pub trait Authorizer: Sized {
    /// Reads the configuration. The error reaches whoever deploys the plugin.
    fn new(config: &Config) -> Result<Self, String>;

    fn check(&self, who: &Principal, action: &Action) -> Result<Decision, CallError>;
}

/// Milliseconds since the Unix epoch, from the broker's clock.
pub fn now_ms() -> i64 {
    #[cfg(target_family = "wasm")]
    return crate::bindings::authorizer::tidegate::plugin::clock::now_ms();
    #[cfg(not(target_family = "wasm"))]
    return std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64);
}

#[doc(hidden)]
pub struct Exported<P>(PhantomData<P>);

impl<P: Authorizer + Installed> Guest for Exported<P> {
    fn init() -> Result<(), String> {
        install(P::new(&config())?);
        Ok(())
    }

    fn check(who: Principal, actions: Vec<Action>) -> Result<Vec<Decision>, CallError> {
        with(|plugin: &P| {
            actions
                .iter()
                .map(|action| plugin.check(&who, action))
                .collect()
        })
    }
}

/// Makes a type that implements [`Authorizer`](crate::Authorizer) the plugin of this component.
#[macro_export]
macro_rules! export_authorizer {
    ($plugin:ty) => {
        $crate::install!($plugin);
        // Elsewhere the exports' names are none that a linker takes, and nobody would call them.
        #[cfg(target_family = "wasm")]
        const _: () = {
            type Exported = $crate::authorizer::Exported<$plugin>;
            $crate::bindings::authorizer::export_authorizer_world!(Exported with_types_in $crate::bindings::authorizer);
        };
        #[cfg(not(target_family = "wasm"))]
        const _: fn() = $crate::authorizer::usable::<$plugin>;
    };
}

/// Natively, what the export macro leaves of a plugin: that it is one.
#[doc(hidden)]
pub fn usable<P: Authorizer + Installed>() {
    let _ = P::new(&config()).map(install::<P>);
}
