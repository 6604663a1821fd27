//! Generated from `wit/`: one module a world. The first holds what the worlds share. The generated code is the only place in
//! this crate that is unsafe: it moves scalars and slices over the component boundary.

pub mod partitioner {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "partitioner",
        pub_export_macro: true,
        export_macro_name: "export_partitioner_world",
        default_bindings_module: "tidegate_plugin::bindings::partitioner",
    });
}

pub mod transform {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "transform",
        pub_export_macro: true,
        export_macro_name: "export_transform_world",
        default_bindings_module: "tidegate_plugin::bindings::transform",
        with: {
            "tidegate:plugin/types@0.1.0": super::partitioner::tidegate::plugin::types,
            "tidegate:plugin/log@0.1.0": super::partitioner::tidegate::plugin::log,
            "tidegate:plugin/metrics@0.1.0": super::partitioner::tidegate::plugin::metrics,
            "tidegate:plugin/config@0.1.0": super::partitioner::tidegate::plugin::config,
        },
    });
}

pub mod authorizer {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "authorizer",
        pub_export_macro: true,
        export_macro_name: "export_authorizer_world",
        default_bindings_module: "tidegate_plugin::bindings::authorizer",
        with: {
            "tidegate:plugin/types@0.1.0": super::partitioner::tidegate::plugin::types,
            "tidegate:plugin/log@0.1.0": super::partitioner::tidegate::plugin::log,
            "tidegate:plugin/metrics@0.1.0": super::partitioner::tidegate::plugin::metrics,
            "tidegate:plugin/config@0.1.0": super::partitioner::tidegate::plugin::config,
        },
    });
}
