"""Run by alembic. The connection is handed in by `gateway.storage.migrations`; there is no offline mode."""

from alembic import context

from gateway.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=False,  # the store owns the transaction: alembic must neither begin nor commit one
)
context.run_migrations()
