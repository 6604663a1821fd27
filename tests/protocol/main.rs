//! One file an API: a request over plain TCP to a running broker, and the reply it must have, in every version it serves.

mod alter_configs;
mod authorization;
mod create_acls;
mod create_partitions;
mod create_topics;
mod delete_acls;
mod delete_groups;
mod delete_topics;
mod describe_acls;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod join_group;
mod leave_group;
mod list_groups;
mod offset_commit;
mod offset_fetch;
mod sasl_authenticate;
mod sasl_handshake;
mod support;
mod sync_group;
