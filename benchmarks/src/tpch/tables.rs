//! The eight tables: names, sizes, how many files each is cut into, and their rows.

use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RecordBatchIterator, RegionArrow,
    SupplierArrow,
};

use super::Scale;

/// Rows a file is to hold: large enough to read in long strides, small enough that scale 1 keeps several readers busy.
const ROWS_PER_FILE: u64 = 1_500_000;

/// Most files of one table.
const MAX_FILES: u64 = 16;

/// Lines of an order on average, by the specification.
const LINES_PER_ORDER: u64 = 4;

/// A TPC-H table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// `lineitem`
    Lineitem,
    /// `orders`
    Orders,
    /// `partsupp`
    Partsupp,
    /// `part`
    Part,
    /// `customer`
    Customer,
    /// `supplier`
    Supplier,
    /// `nation`
    Nation,
    /// `region`
    Region,
}

impl Table {
    /// All tables, the largest first, so that no worker starts a large one at the end.
    pub const ALL: [Table; 8] = [
        Table::Lineitem,
        Table::Orders,
        Table::Partsupp,
        Table::Part,
        Table::Customer,
        Table::Supplier,
        Table::Nation,
        Table::Region,
    ];

    /// The SQL name.
    pub fn name(self) -> &'static str {
        match self {
            Table::Lineitem => "lineitem",
            Table::Orders => "orders",
            Table::Partsupp => "partsupp",
            Table::Part => "part",
            Table::Customer => "customer",
            Table::Supplier => "supplier",
            Table::Nation => "nation",
            Table::Region => "region",
        }
    }

    /// Rows at `scale`: exact, but for `lineitem`, where it is the expected number.
    pub fn rows(self, scale: Scale) -> u64 {
        let factor = scale.factor();
        let rows = match self {
            Table::Lineitem => return Table::Orders.rows(scale) * LINES_PER_ORDER,
            Table::Orders => OrderGenerator::calculate_row_count(factor, 1, 1),
            Table::Partsupp => PartSuppGenerator::calculate_row_count(factor, 1, 1) * 4,
            Table::Part => PartGenerator::calculate_row_count(factor, 1, 1),
            Table::Customer => CustomerGenerator::calculate_row_count(factor, 1, 1),
            Table::Supplier => SupplierGenerator::calculate_row_count(factor, 1, 1),
            Table::Nation => 25,
            Table::Region => 5,
        };
        u64::try_from(rows).unwrap_or(0)
    }

    /// Files the table is cut into at `scale`: from 1 to 16.
    pub(super) fn files(self, scale: Scale) -> u32 {
        let files = self.rows(scale).div_ceil(ROWS_PER_FILE).clamp(1, MAX_FILES);
        u32::try_from(files).unwrap_or(1)
    }

    /// The rows of file `file` (from 0) of `files`, in batches of `batch_rows`.
    pub(super) fn batches(
        self,
        scale: Scale,
        file: u32,
        files: u32,
        batch_rows: usize,
    ) -> Box<dyn RecordBatchIterator> {
        let factor = scale.factor();
        let part = i32::try_from(file + 1).unwrap_or(i32::MAX);
        let parts = i32::try_from(files).unwrap_or(i32::MAX);
        macro_rules! rows {
            ($generator:ident, $arrow:ident) => {
                Box::new($arrow::new($generator::new(factor, part, parts)).with_batch_size(batch_rows))
            };
        }
        match self {
            Table::Lineitem => rows!(LineItemGenerator, LineItemArrow),
            Table::Orders => rows!(OrderGenerator, OrderArrow),
            Table::Partsupp => rows!(PartSuppGenerator, PartSuppArrow),
            Table::Part => rows!(PartGenerator, PartArrow),
            Table::Customer => rows!(CustomerGenerator, CustomerArrow),
            Table::Supplier => rows!(SupplierGenerator, SupplierArrow),
            Table::Nation => rows!(NationGenerator, NationArrow),
            Table::Region => rows!(RegionGenerator, RegionArrow),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_scale_then_large_tables_are_cut_into_bounded_numbers_of_files() {
        let files = |table: Table, scale: &str| table.files(scale.parse().expect("scale"));
        assert_eq!(files(Table::Lineitem, "0.01"), 1);
        assert_eq!(files(Table::Lineitem, "1"), 4);
        assert_eq!(files(Table::Lineitem, "10"), 16);
        assert_eq!(files(Table::Orders, "10"), 10);
        assert_eq!(files(Table::Nation, "1000"), 1);
    }

    #[test]
    fn given_two_files_then_together_they_hold_the_rows_of_one() {
        let scale: Scale = "0.01".parse().expect("scale");
        let count = |file, files| -> usize {
            Table::Lineitem.batches(scale, file, files, 1000).map(|batch| batch.num_rows()).sum()
        };
        assert_eq!(count(0, 1), count(0, 2) + count(1, 2));
    }
}
