//! Who is a member of a group, and which partitions each member owns.

pub(super) mod member;
pub(super) mod membership;
pub(super) mod subscription;
