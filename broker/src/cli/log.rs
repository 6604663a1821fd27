//! `tidegate log`: look at log files while no broker uses them. Reads only.
