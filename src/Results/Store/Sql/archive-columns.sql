-- What can be written of a table: neither identities nor generated columns. Each by its name and as a statement has it.
SELECT a.attname::text, quote_ident(a.attname)
FROM pg_attribute a
WHERE a.attrelid = ('experiments.' || quote_ident($1))::regclass AND a.attnum > 0 AND NOT a.attisdropped
  AND a.attgenerated = '' AND a.attidentity = ''
ORDER BY a.attnum
