//! Fields at fixed positions of a header or an entry.
//!
//! The compiler checks that a field is within its header, so that no access needs a check at run
//! time.

/// Returns the bytes of the field at position `AT`.
#[inline]
pub(crate) fn field<const AT: usize, const SIZE: usize, const LENGTH: usize>(
    header: &[u8; LENGTH],
) -> [u8; SIZE] {
    const { assert!(AT + SIZE <= LENGTH, "the field is within the header") };
    let mut field = [0; SIZE];
    if let Some(bytes) = header.get(AT..AT + SIZE) {
        field.copy_from_slice(bytes);
    }
    field
}

/// Writes the bytes of the field at position `AT`.
#[inline]
pub(crate) fn set_field<const AT: usize, const SIZE: usize, const LENGTH: usize>(
    header: &mut [u8; LENGTH],
    field: [u8; SIZE],
) {
    const { assert!(AT + SIZE <= LENGTH, "the field is within the header") };
    if let Some(bytes) = header.get_mut(AT..AT + SIZE) {
        bytes.copy_from_slice(&field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_read_from_its_position() {
        let header = [0, 1, 2, 3, 4, 5];
        assert_eq!(field::<0, 2, _>(&header), [0, 1]);
        assert_eq!(u16::from_be_bytes(field::<1, _, _>(&header)), 0x0102);
        assert_eq!(field::<2, 4, _>(&header), [2, 3, 4, 5]);
    }

    #[test]
    fn a_field_is_written_to_its_position_alone() {
        let mut header = [0xff; 6];
        set_field::<1, _, _>(&mut header, 0x0102_0304_u32.to_be_bytes());
        assert_eq!(header, [0xff, 1, 2, 3, 4, 0xff]);
        set_field::<4, _, _>(&mut header, [8, 9]);
        assert_eq!(header, [0xff, 1, 2, 3, 8, 9]);
    }
}
