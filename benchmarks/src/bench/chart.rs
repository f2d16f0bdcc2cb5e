//! The medians as bars: a group for each query, a bar for each engine.

use std::error::Error;

use plotters::prelude::*;

use super::report::{BenchReport, EngineReport};
use crate::figures::time;

/// Width and height of the picture, in pixels.
const SIZE: (u32, u32) = (1200, 480);

/// Colours of the engines, in their order.
const COLOURS: [RGBColor; 2] = [RGBColor(0x1f, 0x5f, 0xa8), RGBColor(0xd9, 0x7b, 0x29)];

/// Share of a group's place that its bars take.
const FILLED: f64 = 0.8;

/// Of the height of the highest bar, so that the legend has a place above it.
const HEADROOM: f64 = 1.2;

const FONT: &str = "sans-serif";

/// Draws the report as SVG. The error says what cannot be drawn.
pub(super) fn draw(report: &BenchReport) -> Result<String, String> {
    let mut svg = String::new();
    draw_into(&mut svg, report).map_err(|error| error.to_string())?;
    Ok(svg)
}

fn draw_into(svg: &mut String, report: &BenchReport) -> Result<(), Box<dyn Error + Send + Sync>> {
    let numbers: Vec<u8> = report.engines.iter().take(1).flat_map(|engine| &engine.queries).map(|q| q.query).collect();
    // The axis has a mark at each whole place, and may have others in between.
    let whole = |place: f64| (place - place.round()).abs() < 1e-6 && place > -0.5;
    let at = |place: f64| whole(place).then(|| numbers.get(place.round() as usize)).flatten();
    let number = |place: &f64| at(*place).map(u8::to_string).unwrap_or_default();
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(report.title(), (FONT, 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(-0.5..numbers.len() as f64 - 0.5, 0.0..longest_seconds(report) * HEADROOM)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(numbers.len() + 1)
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&number)
        .x_desc("query")
        .y_desc("seconds")
        .label_style((FONT, 14))
        .draw()?;
    let engines = report.engines.len().max(1) as f64;
    for (index, (engine, colour)) in report.engines.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let style = colour.filled();
        let label = format!("{}: {} in total", engine.engine, time(engine.total_millis));
        chart
            .draw_series(bars(engine, index as f64, engines).map(|corners| Rectangle::new(corners, style)))?
            .label(label)
            .legend(move |(x, y)| Rectangle::new([(x, y - 6), (x + 14, y + 6)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.3))
        .label_font((FONT, 14))
        .draw()?;
    root.present()?;
    Ok(())
}

/// Two corners of each of an engine's bars: it is number `index` (from 0) of `engines`. Heights are seconds.
fn bars(engine: &EngineReport, index: f64, engines: f64) -> impl Iterator<Item = [(f64, f64); 2]> {
    let width = FILLED / engines;
    engine.queries.iter().enumerate().map(move |(place, query)| {
        let left = place as f64 - FILLED / 2.0 + index * width;
        [(left, 0.0), (left + width, query.median_millis.unwrap_or_default() / 1e3)]
    })
}

/// Of all medians; above 0, so that it can be an axis.
fn longest_seconds(report: &BenchReport) -> f64 {
    let medians = report.engines.iter().flat_map(|engine| &engine.queries).filter_map(|query| query.median_millis);
    medians.fold(1.0, f64::max) / 1e3
}

#[cfg(test)]
mod tests {
    use super::super::options::{EngineKind, tests::parse};
    use super::super::report::QueryReport;
    use super::*;

    fn engine(kind: EngineKind, millis: &[f64]) -> EngineReport {
        let queries = millis.iter().zip(1..).map(|(millis, number)| {
            let mut query = QueryReport::new(number);
            query.add(Some(*millis), None);
            query
        });
        EngineReport::new(kind, queries.collect(), Vec::new())
    }

    fn report(engines: Vec<EngineReport>) -> BenchReport {
        BenchReport::new(&parse(&["--scale", "0.1"]).expect("options"), engines, Vec::new())
    }

    #[test]
    fn given_two_engines_then_their_bars_stand_side_by_side_in_each_group() {
        let engine = engine(EngineKind::Springald, &[1000.0, 500.0]);
        let corners: Vec<_> = bars(&engine, 1.0, 2.0).collect();
        assert_eq!(corners, [[(0.0, 0.0), (0.4, 1.0)], [(1.0, 0.0), (1.4, 0.5)]]);
    }

    #[test]
    fn given_a_report_then_the_picture_names_engines_and_queries() {
        let report = report(vec![
            engine(EngineKind::Springald, &[1000.0, 500.0, 20.0]),
            engine(EngineKind::DataFusion, &[900.0, 600.0, 30.0]),
        ]);
        let svg = draw(&report).expect("a picture");
        for part in ["<svg", "springald: 1.52 s in total", "datafusion: 1.53 s in total", "TPC-H scale 0.1", "seconds"]
        {
            assert!(svg.contains(part), "{part} is missing in {svg}");
        }
    }

    #[test]
    fn given_nothing_that_ran_then_there_is_still_a_picture() {
        assert!(draw(&report(vec![EngineReport::new(EngineKind::Springald, Vec::new(), Vec::new())])).is_ok());
        assert!(draw(&report(Vec::new())).is_ok());
    }
}
