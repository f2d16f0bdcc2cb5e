//! The files of a scan. DataFusion's encoding drops their versions, their order, how large their footers are, and more.

use std::sync::Arc;

use chrono::DateTime;
use datafusion::arrow::datatypes::Schema;
use datafusion::common::{Result, Statistics, internal_datafusion_err, plan_err};
use datafusion::datasource::listing::{FileRange, PartitionedFile};
use datafusion::datasource::physical_plan::FileGroup;
use object_store::ObjectMeta;
use object_store::path::Path;
use springald_proto::plan as proto;

use super::super::context::{DecodeContext, EncodeContext, decode_fetch, encode_fetch};
use super::super::values::{
    decode_scalar, decode_schema, decode_statistics, decode_table, encode_scalar, encode_schema, encode_statistics,
    encode_table,
};

pub(super) fn encode_group(group: &FileGroup, context: &EncodeContext<'_>) -> Result<proto::FileGroup> {
    Ok(proto::FileGroup {
        files: group.iter().map(|file| encode_file(file, context)).collect::<Result<_>>()?,
        statistics: group.file_statistics(None).map(encode_statistics).transpose()?,
    })
}

pub(super) fn restore_group(
    group: &proto::FileGroup,
    schema: &Schema,
    context: &DecodeContext<'_>,
) -> Result<FileGroup> {
    let files = group.files.iter().map(|file| restore_file(file, schema, context)).collect::<Result<_>>()?;
    let files = FileGroup::new(files);
    Ok(match restore_statistics(&group.statistics)? {
        Some(statistics) => files.with_statistics(statistics),
        None => files,
    })
}

fn restore_statistics(statistics: &Option<proto::Statistics>) -> Result<Option<Arc<Statistics>>> {
    statistics.as_ref().map(|statistics| decode_statistics(statistics).map(Arc::new)).transpose()
}

fn encode_file(file: &PartitionedFile, context: &EncodeContext<'_>) -> Result<proto::PartitionedFile> {
    let meta = &file.object_meta;
    if !file.extensions.is_empty() {
        return plan_err!("file {} has extensions", meta.location);
    }
    Ok(proto::PartitionedFile {
        path: meta.location.as_ref().to_owned(),
        size: meta.size,
        modified_seconds: meta.last_modified.timestamp(),
        modified_nanoseconds: meta.last_modified.timestamp_subsec_nanos(),
        e_tag: meta.e_tag.clone(),
        version: meta.version.clone(),
        partition_values: file.partition_values.iter().map(encode_scalar).collect::<Result<_>>()?,
        range: file.range.as_ref().map(|range| proto::FileRange { start: range.start, end: range.end }),
        statistics: file.statistics.as_deref().map(encode_statistics).transpose()?,
        ordering: context.optional_ordering(file.ordering.as_ref())?,
        metadata_size_hint: encode_fetch(file.metadata_size_hint),
        table: file.table_reference.as_ref().map(encode_table).unwrap_or_default(),
        schema: file.arrow_schema.as_deref().map(encode_schema).transpose()?,
    })
}

fn restore_file(
    file: &proto::PartitionedFile,
    schema: &Schema,
    context: &DecodeContext<'_>,
) -> Result<PartitionedFile> {
    let last_modified = DateTime::from_timestamp(file.modified_seconds, file.modified_nanoseconds)
        .ok_or_else(|| internal_datafusion_err!("the time of file {:?} is out of range", file.path))?;
    let location = Path::parse(&file.path)
        .map_err(|error| internal_datafusion_err!("the path of file {:?} cannot be decoded: {error}", file.path))?;
    let (e_tag, version) = (file.e_tag.clone(), file.version.clone());
    let meta = ObjectMeta { location, last_modified, size: file.size, e_tag, version };
    let mut restored = PartitionedFile::new_from_meta(meta);
    restored.partition_values =
        file.partition_values.iter().map(|value| decode_scalar(value)).collect::<Result<_>>()?;
    restored.range = file.range.as_ref().map(|range| FileRange { start: range.start, end: range.end });
    restored.statistics = restore_statistics(&file.statistics)?;
    restored.ordering = context.optional_ordering(&file.ordering, schema)?;
    restored.metadata_size_hint = decode_fetch(file.metadata_size_hint);
    restored.table_reference = decode_table(&file.table)?;
    restored.arrow_schema = file.schema.as_ref().map(|schema| decode_schema(schema).map(Arc::new)).transpose()?;
    Ok(restored)
}
