//! One running guest. It is used again and again, and never again after a fault.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::Store;
use wasmtime::component::ComponentExportIndex;

use super::bindings::{
    Action, Answer, Apply, Assign, Assignment, CallError, Caller, Check, Columns, InitPlain,
    InitWithColumns, Origin, RecordBatch, VerdictCode,
};
use super::columns;
use super::component::{Compiled, World};
use super::host::{GuestContext, GuestState};
use super::limits::{Deadline, Limits, MemoryLimiter, bounded_store, enter};
use super::{BatchOrigin, FailureKind, PluginAction, Transformed, Verdict};
use crate::log::records::Record;
use crate::types::Principal;

/// Calls after which an instance is replaced, so that what a guest leaks does not grow for ever.
const MAX_CALLS: u32 = 100_000;
/// Linear memory of an instance that may wait for its next call, in bytes; a larger one is replaced.
const MAX_IDLE_MEMORY_BYTES: usize = 8 << 20;
/// Buffers that a waiting instance may keep, in bytes.
const MAX_IDLE_BUFFER_BYTES: usize = 1 << 20;
/// An error text of a guest, in bytes, on its way to a client.
const MAX_ERROR_BYTES: usize = 512;
/// Bytes of an authorizer's decision on one action.
const DECISION_BYTES: usize = 4096;

/// What holds for every instance of a plugin revision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InstanceSettings {
    pub deadline: Duration,
    pub memory_bytes: usize,
    /// Bytes of records that a batch may bring.
    pub input_bytes: usize,
}

pub struct Instance {
    compiled: Compiled,
    store: Store<GuestState>,
    settings: InstanceSettings,
    function: Function,
    columns: Columns,
    arguments: Arguments,
    calls: u32,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance")
            .field("calls", &self.calls)
            .finish_non_exhaustive()
    }
}

enum Function {
    Assign(Assign),
    Apply(Apply),
    Check(Check),
}

/// The buffers of the next call.
#[derive(Default)]
struct Arguments {
    origin: Arc<Origin>,
    batch: Arc<RecordBatch>,
}

impl Arguments {
    fn fill(
        &mut self,
        from: &BatchOrigin<'_>,
        records: &[Record],
        wanted: Columns,
        max_bytes: usize,
    ) -> Result<(), FailureKind> {
        let count = u32::try_from(records.len())
            .map_err(|_| FailureKind::Input("it has too many records".into()))?;
        let origin = exclusive(&mut self.origin);
        origin.topic.clear();
        origin.topic.push_str(from.topic);
        origin.partition = u32::try_from(from.partition)
            .map_err(|_| FailureKind::Input("its partition is negative".into()))?;
        origin.base_sequence = from.base_sequence;
        origin.record_count = count;
        columns::encode(records, wanted, max_bytes, exclusive(&mut self.batch))
            .map_err(FailureKind::Input)
    }
}

/// The value itself when nobody else holds it, as between calls nobody does; otherwise a fresh one.
fn exclusive<T: Default>(shared: &mut Arc<T>) -> &mut T {
    if Arc::get_mut(shared).is_none() {
        *shared = Arc::default();
    }
    Arc::get_mut(shared).expect("a fresh Arc has one owner")
}

impl Instance {
    /// Starts a guest and initialises it. Errs like any call, or with what its `init` said.
    pub fn start(
        compiled: &Compiled,
        context: &Arc<GuestContext>,
        settings: InstanceSettings,
    ) -> Result<Self, FailureKind> {
        let state = GuestState {
            context: Arc::clone(context),
            memory: MemoryLimiter::new(settings.memory_bytes, Arc::clone(compiled.engine.memory())),
            deadline: Deadline::new(settings.deadline),
            line: String::new(),
        };
        let mut store = bounded_store(&compiled.engine, state);
        let limits = Limits {
            deadline: settings.deadline,
            answer_bytes: 0,
        };
        let started = enter(&compiled.engine, &mut store, limits, |store| {
            start(compiled, store)
        })?;
        let (function, columns) =
            started.map_err(|text| FailureKind::Unavailable(format!("its init failed: {text}")))?;
        Ok(Self {
            compiled: compiled.clone(),
            store,
            settings,
            function,
            columns,
            arguments: Arguments::default(),
            calls: 0,
        })
    }

    pub fn assign(
        &mut self,
        origin: &BatchOrigin<'_>,
        records: &[Record],
    ) -> Result<Vec<u32>, FailureKind> {
        let Function::Assign(function) = &self.function else {
            return Err(self.wrong_world());
        };
        self.arguments
            .fill(origin, records, self.columns, self.settings.input_bytes)?;
        let limits = Limits {
            deadline: self.settings.deadline,
            // A partition for each record, or a reject for each.
            answer_bytes: 64 * records.len() + columns::SPARE_BYTES,
        };
        self.calls += 1;
        let arguments = (
            Arc::clone(&self.arguments.origin),
            origin.partition_count,
            Arc::clone(&self.arguments.batch),
        );
        let (answer,) = enter(&self.compiled.engine, &mut self.store, limits, |store| {
            function.call(store, arguments)
        })?;
        let answer: Assignment = answer.map_err(call_error)?;
        columns::partitions(answer, records.len(), origin.partition_count)
            .map_err(FailureKind::BadOutput)?
            .map_err(FailureKind::Rejected)
    }

    pub fn apply(
        &mut self,
        origin: &BatchOrigin<'_>,
        records: &[Record],
    ) -> Result<Transformed, FailureKind> {
        let Function::Apply(function) = &self.function else {
            return Err(self.wrong_world());
        };
        self.arguments
            .fill(origin, records, self.columns, self.settings.input_bytes)?;
        let given = &self.arguments.batch;
        let limits = Limits {
            deadline: self.settings.deadline,
            // The records, and their index at its own bound.
            answer_bytes: columns::max_answer_bytes(given)
                + 8 * given.lengths.len()
                + 12 * records.len(),
        };
        self.calls += 1;
        let arguments = (Arc::clone(&self.arguments.origin), Arc::clone(given));
        let (answer,) = enter(&self.compiled.engine, &mut self.store, limits, |store| {
            function.call(store, arguments)
        })?;
        match answer.map_err(call_error)? {
            Answer::Unchanged => Ok(Transformed::Unchanged),
            Answer::Keep(bitmap) => columns::kept(&bitmap, records.len()),
            Answer::Reject(rejects) => {
                columns::rejects(rejects, records.len()).map(Transformed::Rejected)
            }
            Answer::Replace(new) => {
                columns::replaced(new, self.columns, records, &self.arguments.batch)
                    .map(Transformed::Replaced)
            }
        }
        .map_err(FailureKind::BadOutput)
    }

    /// One verdict for each action, with the milliseconds for which it holds.
    pub fn check(
        &mut self,
        caller: &AuthorizerCaller<'_>,
        actions: &[&PluginAction],
    ) -> Result<Vec<(Verdict, u32)>, FailureKind> {
        let Function::Check(function) = &self.function else {
            return Err(self.wrong_world());
        };
        let limits = Limits {
            deadline: self.settings.deadline,
            answer_bytes: DECISION_BYTES * actions.len(),
        };
        self.calls += 1;
        let arguments = (
            caller.to_wire(),
            actions.iter().map(|action| to_wire(action)).collect(),
        );
        let (answer,) = enter(&self.compiled.engine, &mut self.store, limits, |store| {
            function.call(store, arguments)
        })?;
        let decisions = answer.map_err(call_error)?;
        if decisions.len() != actions.len() {
            return Err(FailureKind::BadOutput(format!(
                "{} decisions on {} actions",
                decisions.len(),
                actions.len()
            )));
        }
        Ok(decisions
            .into_iter()
            .map(|decision| {
                let verdict = match decision.verdict {
                    VerdictCode::Allow => Verdict::Allow,
                    VerdictCode::Abstain => Verdict::Abstain,
                    VerdictCode::Deny => Verdict::Deny(
                        decision
                            .reason
                            .map(|reason| columns::truncated(reason, MAX_ERROR_BYTES)),
                    ),
                };
                (verdict, decision.cache_ms)
            })
            .collect())
    }

    fn wrong_world(&self) -> FailureKind {
        FailureKind::WrongWorld(self.compiled.inspected.world.name().into())
    }

    /// Bytes of the batch of the last call, with what says how they are cut.
    pub fn given_bytes(&self) -> usize {
        let batch = &self.arguments.batch;
        batch.data.len() + size_of_val(&*batch.lengths)
    }

    /// How long the next calls may take.
    pub fn set_deadline(&mut self, deadline: Duration) {
        self.settings.deadline = deadline;
    }

    /// Whether it may wait for another call.
    pub fn reusable(&mut self) -> bool {
        if self.arguments.batch.data.capacity() > MAX_IDLE_BUFFER_BYTES {
            self.arguments.batch = Arc::default();
        }
        self.calls < MAX_CALLS
            && !self.compiled.engine.memory().is_scarce()
            && self.store.data().memory.used() <= MAX_IDLE_MEMORY_BYTES
    }
}

type Started = (Function, Columns);

/// Instantiates, looks the functions up and calls `init`. The inner error is the guest's own.
fn start(
    compiled: &Compiled,
    store: &mut Store<GuestState>,
) -> wasmtime::Result<Result<Started, String>> {
    let instance = compiled.pre.instantiate(&mut *store)?;
    let interface = instance
        .get_export_index(&mut *store, None, &compiled.inspected.export)
        .ok_or_else(|| missing(&compiled.inspected.export))?;
    let mut find = |name: &str| -> wasmtime::Result<ComponentExportIndex> {
        instance
            .get_export_index(&mut *store, Some(&interface), name)
            .ok_or_else(|| missing(name))
    };
    let world = compiled.inspected.world;
    let (init, function) = (find("init")?, find(world.function())?);
    let function = match world {
        World::Partitioner => Function::Assign(instance.get_typed_func(&mut *store, function)?),
        World::Transform => Function::Apply(instance.get_typed_func(&mut *store, function)?),
        World::Authorizer => Function::Check(instance.get_typed_func(&mut *store, function)?),
    };
    let columns = if world == World::Authorizer {
        let init: InitPlain = instance.get_typed_func(&mut *store, init)?;
        init.call(store, ())?.0.map(|()| Columns::default())
    } else {
        let init: InitWithColumns = instance.get_typed_func(&mut *store, init)?;
        init.call(store, ())?.0
    };
    Ok(columns
        .map(|columns| (function, columns))
        .map_err(|text| columns::truncated(text, MAX_ERROR_BYTES)))
}

fn missing(export: &str) -> wasmtime::Error {
    wasmtime::format_err!("it does not export {export}")
}

fn call_error(error: CallError) -> FailureKind {
    let text = match error {
        CallError::RetryAfterMs(ms) => format!("try again after {ms} ms"),
        CallError::Permanent(text) => {
            return FailureKind::Refused(columns::truncated(text, MAX_ERROR_BYTES));
        }
        CallError::Misconfigured(text) => format!("its configuration does not do: {text}"),
    };
    FailureKind::CallError(columns::truncated(text, MAX_ERROR_BYTES))
}

/// Who asks, as the broker holds it.
#[derive(Clone, Copy, Debug)]
pub struct AuthorizerCaller<'a> {
    pub principal: &'a Principal,
    pub host: &'a str,
    pub listener: &'a str,
    pub client_id: Option<&'a str>,
}

impl AuthorizerCaller<'_> {
    fn to_wire(self) -> Caller {
        Caller {
            kind: Arc::clone(&self.principal.kind),
            name: Arc::clone(&self.principal.name),
            client_host: self.host.to_owned(),
            listener: self.listener.to_owned(),
            client_id: self.client_id.map(str::to_owned),
        }
    }

    /// Tells callers apart, however their parts are cut: each is preceded by its length.
    pub fn key(&self) -> String {
        use std::fmt::Write;
        let mut key = String::new();
        let parts = [
            Some(&*self.principal.kind),
            Some(&*self.principal.name),
            Some(self.host),
            Some(self.listener),
            self.client_id,
        ];
        for part in parts {
            // Writing to a string does not fail.
            let _ = match part {
                Some(part) => write!(key, "{}:{part}", part.len()),
                None => write!(key, "-"),
            };
        }
        key
    }
}

fn to_wire(action: &PluginAction) -> Action {
    Action {
        operation: action.operation.cast_unsigned(),
        resource_type: action.resource_type.cast_unsigned(),
        resource_name: action.resource_name.clone(),
    }
}
