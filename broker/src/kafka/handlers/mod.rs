//! One file an API, named as the protocol names it. Each header is the contract: versions, behaviour, what is left out.
