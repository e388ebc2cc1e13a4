"""What the tests of the lakehouse share: real servers of S3, Glue and Postgres."""

from tests.servers import moto_server, postgres_url

__all__ = ["moto_server", "postgres_url"]
