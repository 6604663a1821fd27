//! An authorizer that forgets to answer about topics named `forget`, and tells the broker's time about those named `clock`.

use tidegate_plugin::bindings::authorizer::exports::tidegate::plugin::authorization::Guest;
use tidegate_plugin::{Action, CallError, Decision, Principal, Verdict, now_ms};

struct Miscounter;

impl Guest for Miscounter {
    fn init() -> Result<(), String> {
        Ok(())
    }

    fn check(_who: Principal, actions: Vec<Action>) -> Result<Vec<Decision>, CallError> {
        Ok(actions
            .iter()
            .filter(|action| action.resource_name != "forget")
            .map(|action| Decision {
                verdict: Verdict::Deny,
                cache_ms: 0,
                reason: (action.resource_name == "clock").then(|| now_ms().to_string()),
            })
            .collect())
    }
}

#[cfg(target_family = "wasm")]
tidegate_plugin::bindings::authorizer::export_authorizer_world!(Miscounter with_types_in tidegate_plugin::bindings::authorizer);
#[cfg(not(target_family = "wasm"))]
const _: fn() -> Result<(), String> = <Miscounter as Guest>::init;
