-- The text of an archive does not depend on the server's or the role's settings.
SELECT set_config('datestyle', 'ISO, YMD', true), set_config('timezone', 'UTC', true), set_config('extra_float_digits', '1', true),
    set_config('bytea_output', 'hex', true), set_config('intervalstyle', 'postgres', true)
