-- A sweep carries the files that it is over: by their content, so that what sweeps share is kept once, and in pieces, so that nobody holds a whole one.

CREATE TABLE experiments.file (
    content   uuid PRIMARY KEY,
    bytes     bigint NOT NULL CHECK (bytes > 0),
    stored_at timestamptz NOT NULL DEFAULT now(),
    sha256    bytea NOT NULL,
    CHECK (length(sha256) = 32 AND substring(sha256 FOR 16) = uuid_send(content))
);

CREATE TABLE experiments.file_piece (
    content uuid NOT NULL REFERENCES experiments.file ON DELETE CASCADE,
    number  int NOT NULL,
    data    bytea NOT NULL,
    PRIMARY KEY (content, number)
);
-- Random mantissas do not compress; trying costs more than the answer.
ALTER TABLE experiments.file_piece ALTER data SET STORAGE EXTERNAL;

CREATE TABLE experiments.sweep_file (
    sweep_id bigint NOT NULL REFERENCES experiments.sweep ON DELETE CASCADE,
    content  uuid NOT NULL REFERENCES experiments.file,
    PRIMARY KEY (sweep_id, content)
);
-- Whether anybody still needs a file is asked whenever a sweep is deleted.
CREATE INDEX sweep_file_content ON experiments.sweep_file (content);

COMMENT ON TABLE experiments.file IS 'Files that sweeps carry, whoever submitted them: as they were when the first of those sweeps was.';
COMMENT ON COLUMN experiments.file.content IS 'The first 128 bits of the SHA-256, by which specifications name it.';
COMMENT ON TABLE experiments.file_piece IS 'The bytes of a file, in pieces that are numbered from 0. Not for the reader: only what silos need is there.';
COMMENT ON TABLE experiments.sweep_file IS 'Which files a sweep carries. A file that no sweep carries any more is deleted with the last of them.';
