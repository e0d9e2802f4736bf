//! The REST face of the app: routes derived from the table of operations, on this machine only unless asked.
