-- A client whose machine or network is gone says nothing: the server looks for itself, or else a commit's row locks would stay for two hours.
-- Over a Unix socket these mean nothing.
SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3; SET tcp_user_timeout = 11000
