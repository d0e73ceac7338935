//! Types that hold data, and Python's equality, ordering and text of values.
