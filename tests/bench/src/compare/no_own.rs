//! In the place of [`own`](super::own) when the program is built without the feature `peers`.

use anyhow::{Result, bail};

use crate::options::{Options, Variant};
use crate::report::Measured;
use crate::servers::{Name, Running};

pub async fn run(name: Name, _: &Options, _: &Variant, _: &Running) -> Result<Measured> {
    bail!("this `bench` was built without a client of {name}: build it with `--features peers`")
}
