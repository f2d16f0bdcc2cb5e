//! Plans of real queries, compared with themselves planned again and with plans that have lost something.

mod constructed;
mod examples;
mod fixture;
mod layouts;
mod losses;
mod scan_losses;
mod timing;
