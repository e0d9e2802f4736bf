//! Numbers that may leave the computer's memory while nobody uses them.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io::{self, Write},
    ops::{Deref, DerefMut},
};

use memmap2::MmapMut;

/// A list of f32, in memory or in a file that is mapped into it. The system writes pages of a mapped file back and takes their memory when
/// others need it, whether or not the machine has swap space, and reads them again when they are used.
#[derive(Debug)]
pub struct Pages {
    kept: Kept,
    len: usize,
}

#[derive(Debug)]
enum Kept {
    Memory(Vec<f32>),
    File(MmapMut),
}

impl Pages {
    /// Zeros in memory.
    pub fn zeros(len: usize) -> Self {
        Pages { kept: Kept::Memory(vec![0.0; len]), len }
    }

    /// Moves the numbers to `file`, which nobody else may open: one without a name.
    ///
    /// # Errors
    /// The file cannot be made as large, or not be mapped; then all stays as it was.
    pub fn move_to(&mut self, file: &File) -> io::Result<()> {
        if self.len == 0 {
            return Ok(());
        }
        // Written, not only made as long: a page of a hole that the disk has no room for ends the program when it is touched.
        let zeros = vec![0; (1 << 20).min(self.len * size_of::<f32>())];
        let mut missing = self.len * size_of::<f32>();
        while missing > 0 {
            let part = missing.min(zeros.len());
            (&*file).write_all(&zeros[..part])?;
            missing -= part;
        }
        // SAFETY: nobody else opens the file, so that nothing changes or cuts off what is mapped.
        let map = unsafe { MmapMut::map_mut(file)? };
        let mut moved = Pages { kept: Kept::File(map), len: self.len };
        moved.copy_from_slice(self);
        *self = moved;
        Ok(())
    }

    /// Whether they are in a file.
    pub fn are_mapped(&self) -> bool {
        matches!(self.kept, Kept::File(_))
    }
}

impl Deref for Pages {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &self.kept {
            Kept::Memory(values) => values,
            // SAFETY: the map starts at a page, holds as many f32, and every pattern of bits is one.
            Kept::File(map) => unsafe { std::slice::from_raw_parts(map.as_ptr().cast(), self.len) },
        }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [f32] {
        match &mut self.kept {
            Kept::Memory(values) => values,
            // SAFETY: as above.
            Kept::File(map) => unsafe { std::slice::from_raw_parts_mut(map.as_mut_ptr().cast(), self.len) },
        }
    }
}
