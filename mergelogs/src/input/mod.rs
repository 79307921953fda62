//! The inputs: archives opened and decompressed, cut into lines, parsed by reader threads.
//!
//! [`archive`] opens files in any of the known compressions, [`lines`] cuts them into blocks of whole
//! lines, [`heads`] looks at each input's beginning, [`third_party`] parses logs of other balancers,
//! [`reader`] threads parse ahead of the join, and [`shares`] divides memory among them.

pub(crate) mod all;
pub(crate) mod archive;
pub(crate) mod copies;
pub(crate) mod heads;
pub(crate) mod hosts;
pub(crate) mod lines;
pub(crate) mod reader;
pub(crate) mod shares;
pub(crate) mod third_party;
