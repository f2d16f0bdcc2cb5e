//! How deep a statement may be nested.
//!
//! Syntax trees, expressions and plans are walked, copied and dropped by recursion, and a stack that overflows takes the
//! whole process with it. Most brackets in brackets the parser limits itself. A chain needs none: of `1 + 1 + …`,
//! `a = 1 OR a = 2 OR …` or `… UNION ALL …`, each link is one level more. So the depth is bounded twice:
//!
//! ```text
//! SQL ─▶ tokens ──check_tokens──▶ syntax tree ─▶ names resolved ──check_plan──▶ optimizer, executors
//!                 before there is a tree to drop        with what views and WITH have brought in
//! ```
//!
//! Pure: knows no session and no catalog.

use std::mem;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion, TreeNodeVisitor};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use springald_core::error::{Error, Result};

/// Levels of a syntax tree, as its tokens let expect them: usually there are half or a third as many.
const MAX_TREE_DEPTH: usize = 4000;

/// Levels of a plan with the expressions in it. Planning twice as many takes most of the stack that is there for it
/// ([`springald_core::compute::STACK_BYTES`]), and its time grows with their square.
const MAX_PLAN_DEPTH: usize = 2000;

/// Brackets in brackets, and EXPLAIN of EXPLAIN. The parser allows fewer, but does not count all of them.
const MAX_BRACKETS: usize = 256;

/// Operators of a plan. A view or a query of WITH that is named twice is there twice.
const MAX_OPERATORS: usize = 20_000;

/// Refuses a statement whose syntax tree may be too deep.
///
/// # Errors
/// Says where in the text, and what to write instead.
pub(super) fn check_tokens(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut nesting = Nesting::default();
    for token in tokens {
        nesting.take(&token.token);
        if let Some(fault) = nesting.fault() {
            let place = token.span.start;
            return Err(Error::invalid(format!("{fault} (at line {}, column {})", place.line, place.column)));
        }
    }
    nesting.close_all();
    nesting.fault().map_or(Ok(()), |fault| Err(Error::invalid(fault)))
}

fn too_deep(what: &str) -> String {
    format!(
        "the statement is nested too deeply: {what}; write IN (…) for ORs, VALUES for UNIONs of constants, or split the \
         statement"
    )
}

/// An upper bound of the syntax tree's depth, from the tokens alone.
///
/// Whatever the parser makes of them: without brackets, each level takes a token that does not stand in the place of an
/// operand. Those are counted, from one comma to the next.
#[derive(Default)]
struct Nesting {
    /// The innermost bracket that is open.
    top: Level,
    /// Those around it, from the outside.
    outer: Vec<Level>,
    /// What comes next continues an operand; else it is one, whatever it is called.
    after_operand: bool,
    /// What the last token was.
    previous: Option<Keyword>,
}

/// What is between two brackets.
#[derive(Default)]
struct Level {
    kind: Kind,
    /// Levels that no comma ends: set operations, queries of WITH, tables of a FROM.
    joined: usize,
    /// Tokens in the place of an operator, since the last comma.
    steps: usize,
    /// Depth of the deepest bracket since the last comma.
    below: usize,
    /// Depth of what stands before the last comma.
    deepest: usize,
    /// A comma joins another table.
    from: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    /// Ends with a closing bracket.
    #[default]
    Bracket,
    /// `<` of a type, as in `ARRAY<INT>`. Ends with `>`.
    Type,
    /// What the parser enters without any bracket. Ends with what is around it.
    Open,
}

impl Level {
    fn depth(&self) -> usize {
        self.joined + self.deepest.max(self.steps + self.below)
    }

    fn end_chain(&mut self) {
        self.deepest = self.deepest.max(self.steps + self.below);
        (self.steps, self.below) = (0, 0);
    }
}

impl Nesting {
    fn take(&mut self, token: &Token) {
        let keyword = match token {
            Token::Whitespace(_) | Token::EOF => return,
            Token::Word(word) => word.keyword,
            _ => Keyword::NoKeyword,
        };
        match token {
            Token::Word(_) => self.word(keyword),
            Token::LParen | Token::LBracket | Token::LBrace => {
                // WITH … AS (…): what comes later may be made of it.
                let named = matches!(self.previous, Some(Keyword::AS | Keyword::MATERIALIZED));
                self.top.joined += usize::from(named);
                self.operand();
                self.open(Kind::Bracket);
            }
            Token::RParen | Token::RBracket | Token::RBrace => self.close_bracket(),
            Token::Lt if matches!(self.previous, Some(Keyword::ARRAY | Keyword::STRUCT | Keyword::MAP)) => {
                self.operator();
                self.open(Kind::Type);
            }
            Token::Gt if self.top.kind == Kind::Type => self.close_types(1),
            Token::ShiftRight if self.top.kind == Kind::Type => self.close_types(2),
            Token::Comma | Token::SemiColon => {
                self.top.end_chain();
                self.top.joined += usize::from(self.top.from);
                self.after_operand = false;
            }
            Token::VerticalBarRightAngleBracket => {
                self.top.joined += 1;
                self.operator();
            }
            Token::Number(..) | Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) | Token::Placeholder(_) => {
                self.operand();
            }
            _ => self.operator(),
        }
        self.previous = Some(keyword);
    }

    fn word(&mut self, keyword: Keyword) {
        match (self.previous, keyword) {
            // Parsed by recursion that the parser does not count.
            (_, Keyword::EXPLAIN) | (Some(Keyword::INTERVAL), Keyword::INTERVAL) => self.open(Kind::Open),
            (_, Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT | Keyword::MINUS) => {
                self.top.joined += 1;
                self.after_operand = false;
            }
            // The next query of a set operation. A column that is called SELECT cannot stand here, so no expression goes on.
            (
                Some(
                    Keyword::UNION
                    | Keyword::INTERSECT
                    | Keyword::EXCEPT
                    | Keyword::MINUS
                    | Keyword::ALL
                    | Keyword::DISTINCT
                    | Keyword::NAME,
                ),
                Keyword::SELECT,
            ) => {
                self.top.end_chain();
                self.top.from = false;
                self.after_operand = false;
            }
            (previous, Keyword::FROM) => {
                // IS DISTINCT FROM is an operator.
                self.top.from |= previous != Some(Keyword::DISTINCT);
                self.operator();
            }
            // All others are operators where no operand is missing: AND, IS, JOIN, …
            _ if self.after_operand => self.operator(),
            _ => self.after_operand = true,
        }
    }

    fn operator(&mut self) {
        self.top.steps += 1;
        self.after_operand = false;
    }

    /// An operand; behind another one it is more than that: the bracket of a call, the value of `DATE '…'`.
    fn operand(&mut self) {
        self.top.steps += usize::from(self.after_operand);
        self.after_operand = true;
    }

    fn open(&mut self, kind: Kind) {
        let outer = mem::replace(&mut self.top, Level { kind, ..Level::default() });
        self.outer.push(outer);
        self.after_operand = false;
    }

    /// Closes what was opened last; `None` if nothing is open.
    fn close(&mut self) -> Option<Kind> {
        let outer = self.outer.pop()?;
        let closed = mem::replace(&mut self.top, outer);
        self.top.below = self.top.below.max(closed.depth() + 1);
        self.after_operand = true;
        Some(closed.kind)
    }

    fn close_bracket(&mut self) {
        while let Some(kind) = self.close() {
            if kind == Kind::Bracket {
                return;
            }
        }
    }

    fn close_types(&mut self, count: usize) {
        for _ in 0..count {
            if self.top.kind == Kind::Type {
                self.close();
            }
        }
    }

    fn close_all(&mut self) {
        while self.close().is_some() {}
    }

    fn fault(&self) -> Option<String> {
        if self.outer.len() > MAX_BRACKETS {
            return Some(format!("the statement has more than {MAX_BRACKETS} brackets in each other"));
        }
        (self.top.depth() > MAX_TREE_DEPTH).then(|| {
            too_deep(&format!(
                "more than {MAX_TREE_DEPTH} operators, joins or set operations follow each other or contain each other"
            ))
        })
    }
}

/// Refuses a plan that is too deep, or too large. The optimizer puts the expressions of one operator into those of the
/// next, so that they are as deep as all of them on the way down.
///
/// # Errors
/// Says what there is too much of.
pub(super) fn check_plan(plan: &LogicalPlan) -> Result<()> {
    let mut measured = Measured::default();
    plan.visit_with_subqueries(&mut measured)?;
    if measured.deepest > MAX_PLAN_DEPTH {
        let what = format!(
            "its plan has more than {MAX_PLAN_DEPTH} levels of operators and expressions, with those of the views and WITH \
             queries that it names"
        );
        return Err(Error::invalid(too_deep(&what)));
    }
    if measured.operators > MAX_OPERATORS {
        return Err(Error::invalid(format!(
            "the statement's plan has more than {MAX_OPERATORS} operators, with those of the views and WITH queries that it \
             names, once for each time: name them less often, or split the statement"
        )));
    }
    Ok(())
}

#[derive(Default)]
struct Measured {
    /// Depths of the operators from the root to the one that is visited, each with those above it.
    path: Vec<usize>,
    deepest: usize,
    operators: usize,
}

impl<'n> TreeNodeVisitor<'n> for Measured {
    type Node = LogicalPlan;

    fn f_down(&mut self, node: &'n LogicalPlan) -> datafusion::common::Result<TreeNodeRecursion> {
        let mut expressions = ExpressionDepth::default();
        node.apply_expressions(|expression| expression.visit(&mut expressions))?;
        let depth = self.path.last().copied().unwrap_or(0) + 1 + expressions.deepest;
        self.path.push(depth);
        self.deepest = self.deepest.max(depth);
        self.operators += 1;
        let within = self.deepest <= MAX_PLAN_DEPTH && self.operators <= MAX_OPERATORS;
        Ok(if within { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    }

    fn f_up(&mut self, _node: &'n LogicalPlan) -> datafusion::common::Result<TreeNodeRecursion> {
        self.path.pop();
        Ok(TreeNodeRecursion::Continue)
    }
}

#[derive(Default)]
struct ExpressionDepth {
    current: usize,
    deepest: usize,
}

impl<'n> TreeNodeVisitor<'n> for ExpressionDepth {
    type Node = Expr;

    fn f_down(&mut self, _node: &'n Expr) -> datafusion::common::Result<TreeNodeRecursion> {
        self.current += 1;
        self.deepest = self.deepest.max(self.current);
        Ok(TreeNodeRecursion::Continue)
    }

    fn f_up(&mut self, _node: &'n Expr) -> datafusion::common::Result<TreeNodeRecursion> {
        self.current -= 1;
        Ok(TreeNodeRecursion::Continue)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;
    use springald_core::error::ErrorCode;

    use super::*;

    fn checked(sql: &str) -> Result<()> {
        check_tokens(&Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().expect("tokens"))
    }

    /// `count` parts, numbered, with `between` between them.
    fn list(count: usize, between: &str, part: impl Fn(usize) -> String) -> String {
        (0..count).map(part).collect::<Vec<_>>().join(between)
    }

    #[test]
    fn given_a_chain_of_whatever_kind_that_is_too_long_then_it_is_refused() {
        for (head, link, tail) in [
            ("SELECT 1", "+1", ""),
            ("SELECT 'a'", "||'b'", ""),
            ("SELECT a", " . b", ""),
            ("SELECT a", "[1]", ""),
            ("SELECT a", "::INT", ""),
            ("SELECT a::INT", "[]", ""),
            ("SELECT a", "::STRUCT<b INT, c INT>", ""),
            ("SELECT a", " IS NULL", ""),
            ("SELECT a", " NOT LIKE select", ""),
            ("SELECT a", " NOT LIKE where", ""),
            ("SELECT a", " COLLATE b", ""),
            ("SELECT a", " OPERATOR(b.+) select", ""),
            ("SELECT CASE WHEN a THEN when", " + when + then", " END"),
            ("SELECT from", " + from", ""),
            ("SELECT * FROM t WHERE a = 0", " OR a = 1", ""),
            ("SELECT * FROM t WHERE a = 0", " AND NOT a = 1", ""),
            ("SELECT * FROM t", " JOIN t USING (a)", ""),
            ("SELECT * FROM t", " NATURAL JOIN t", ""),
            ("SELECT * FROM t", ", t", ""),
            ("SELECT * FROM t", ", where a", " WHERE b"),
            ("SELECT * FROM (t)", " PIVOT (sum(a) FOR b IN (1, 2))", ""),
            ("SELECT 1, 2", " UNION ALL SELECT 1, 2", ""),
            ("SELECT 1, 2", " UNION ALL BY NAME (SELECT 1, 2)", ""),
            ("VALUES (1, 2)", " EXCEPT VALUES (1, 2)", ""),
            ("SELECT 1", " |> SELECT 1, 2", ""),
            ("WITH a AS (SELECT 1)", ", a AS (SELECT 1, 2 FROM a)", " SELECT 1"),
            ("", "EXPLAIN ", "SELECT 1"),
            ("", "EXPLAIN ANALYZE VERBOSE ", "SELECT 1"),
            ("SELECT ", "INTERVAL ", "'1 day'"),
            ("SELECT a::", "ARRAY<", "INT"),
            ("SELECT ", "(", "1"),
        ] {
            let error = checked(&format!("{head}{}{tail}", link.repeat(20_000))).expect_err(link);
            assert_eq!(error.code(), ErrorCode::Invalid, "{link}");
            let shown = error.message();
            assert!(shown.contains("4000 operators") || shown.contains("256 brackets"), "{link}: {shown}");
            assert!(shown.contains("(at line 1, column "), "{link}: {shown}");
            checked(&format!("{head}{}{tail}", link.repeat(200))).expect(link);
        }
    }

    #[test]
    fn given_long_chains_in_brackets_of_each_other_then_their_lengths_are_added() {
        let chain = " + 1".repeat(500);
        let nested = |depth: usize| format!("SELECT {}1{}", "(".repeat(depth), format!("{chain})").repeat(depth));
        checked(&nested(7)).expect("3500 and some");
        checked(&nested(9)).expect_err("4500");
        let beside = list(20, ", ", |_| format!("(1{chain})"));
        checked(&format!("SELECT {beside}")).expect("each 500");
        let error = checked(&format!("SELECT\n  1{}", " + 1".repeat(5000))).expect_err("too long");
        assert!(error.message().contains("IN (…)") && error.message().contains("line 2, column 16001"), "{error}");
    }

    #[test]
    fn given_large_statements_that_are_not_deep_then_they_pass() {
        let columns = list(2000, ", ", |n| format!("coalesce(t.a{n}, 0) * 2 + t.b{n} :: INT AS \"c{n}\""));
        let cases = list(500, " ", |n| format!("WHEN t.a = {n} AND b IS NOT NULL THEN 'x{n}'"));
        for sql in [
            format!("SELECT * FROM t WHERE a IN ({})", list(50_000, ", ", |n| format!("-{n}"))),
            format!("SELECT * FROM (VALUES {}) AS t (a, b)", list(20_000, ", ", |n| format!("({n}, -1.5e3)"))),
            format!("SELECT {columns} FROM t"),
            format!("SELECT {columns} FROM t GROUP BY {}", list(1000, ", ", |n| n.to_string())),
            list(500, " UNION ALL ", |n| format!("SELECT {n} AS a, b FROM t{n} x WHERE x.a = 1 AND b > 2")),
            list(500, " UNION ALL ", |n| format!("(SELECT {n} AS a, b FROM t{n} ORDER BY a, b LIMIT 5)")),
            format!("SELECT CASE {cases} ELSE 'y' END FROM t"),
            format!("SELECT * FROM t WHERE {}", list(1500, " OR ", |n| format!("a = {n}"))),
            format!("SELECT * FROM t WHERE {}", list(1000, " OR ", |n| format!("(t.a = {n} AND t.b = 'x')"))),
            format!("WITH {} SELECT 1", list(200, ", ", |n| format!("q{n} AS (SELECT a, b FROM t WHERE a > {n})"))),
            format!(
                "SELECT * FROM t {}",
                list(200, " ", |n| format!("LEFT JOIN u{n} ON t.a = u{n}.a AND t.b = u{n}.b"))
            ),
            format!(
                "CREATE EXTERNAL TABLE t ({}) STORED AS CSV",
                list(3000, ", ", |n| format!("c{n} ARRAY<STRUCT<a INT>>"))
            ),
            list(3000, ", ", |n| format!("a IS DISTINCT FROM {n}")),
        ] {
            checked(&sql).unwrap_or_else(|error| panic!("{}: {error}", sql.get(..80).unwrap_or_default()));
        }
    }

    async fn planned(sql: &str) -> Result<()> {
        checked(sql).expect("its tokens are no reason");
        check_plan(&SessionContext::new().state().create_logical_plan(sql).await.expect("plans"))
    }

    #[tokio::test]
    async fn given_queries_of_with_that_build_on_each_other_then_their_depths_are_added() {
        let sums = |count: usize| {
            let chain = " + x".repeat(300);
            let query = |n: usize| format!("q{} AS (SELECT x{chain} AS x FROM q{n})", n + 1);
            format!("WITH q0 AS (SELECT 1 AS x), {} SELECT x FROM q{count}", list(count, ", ", query))
        };
        planned(&sums(5)).await.expect("1500 and some");
        let error = planned(&sums(15)).await.expect_err("4500");
        assert!(error.message().contains("2000 levels"), "{error}");
    }

    #[tokio::test]
    async fn given_queries_of_with_that_double_each_time_then_the_plan_is_refused_as_too_large() {
        let doubled = |count: usize| {
            let query = |n: usize| format!("q{} AS (SELECT l.x FROM q{n} l, q{n} r)", n + 1);
            format!("WITH q0 AS (SELECT 1 AS x), {} SELECT x FROM q{count}", list(count, ", ", query))
        };
        planned(&doubled(5)).await.expect("some hundred");
        let error = planned(&doubled(15)).await.expect_err("2^15");
        assert!(error.message().contains("20000 operators"), "{error}");
    }
}
