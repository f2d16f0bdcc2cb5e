//! The 22 queries with the specification's validation parameters, and what their ORDER BY fixes.

use super::Scale;

/// One of the 22 queries.
#[derive(Debug)]
pub struct Query {
    /// 1 to 22.
    pub number: u8,
    template: &'static str,
    /// Result columns, from 0, that the ORDER BY names, in its order. Rows that agree in all of them may come in any
    /// order; without any column the query has one row.
    pub order_by: &'static [usize],
}

macro_rules! queries {
    ($($number:literal $file:literal $order_by:expr;)*) => {
        [$(Query {
            number: $number,
            template: include_str!(concat!("../../queries/", $file)),
            order_by: &$order_by,
        }),*]
    };
}

/// All queries, in order.
pub static QUERIES: [Query; 22] = queries! {
    1 "q01.sql" [0, 1];
    2 "q02.sql" [0, 2, 1, 3];
    3 "q03.sql" [1, 2];
    4 "q04.sql" [0];
    5 "q05.sql" [1];
    6 "q06.sql" [];
    7 "q07.sql" [0, 1, 2];
    8 "q08.sql" [0];
    9 "q09.sql" [0, 1];
    10 "q10.sql" [2];
    11 "q11.sql" [1];
    12 "q12.sql" [0];
    13 "q13.sql" [1, 0];
    14 "q14.sql" [];
    15 "q15.sql" [0];
    16 "q16.sql" [3, 0, 1, 2];
    17 "q17.sql" [];
    18 "q18.sql" [4, 3];
    19 "q19.sql" [];
    20 "q20.sql" [0];
    21 "q21.sql" [1, 0];
    22 "q22.sql" [0];
};

impl Query {
    /// Query `number`, 1 to 22.
    pub fn get(number: u8) -> Option<&'static Query> {
        QUERIES.iter().find(|query| query.number == number)
    }

    /// The SQL text at `scale`, on which query 11 depends.
    pub fn sql(&self, scale: Scale) -> String {
        self.template.trim_end().replace("{fraction}", &scale.query_11_fraction())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_the_list_then_it_holds_queries_1_to_22_without_open_parameters() {
        let scale = "10".parse().expect("scale");
        for (index, query) in QUERIES.iter().enumerate() {
            assert_eq!(usize::from(query.number), index + 1);
            let sql = query.sql(scale);
            assert!(!sql.contains('{') && !sql.contains(';'), "query {}", query.number);
            assert_eq!(sql.contains("order by"), !query.order_by.is_empty(), "query {}", query.number);
        }
        assert!(QUERIES[10].sql(scale).contains("* 0.00001\n"));
        assert!(Query::get(0).is_none() && Query::get(23).is_none());
    }
}
