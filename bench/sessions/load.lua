-- Script of wrk. Its argument is the method; services.py reads its last line: requests, microseconds, failures.
function init(arguments)
  wrk.method = arguments[1]
end

function done(summary)
  local errors = summary.errors
  local failed = errors.status + errors.connect + errors.read + errors.write + errors.timeout
  print(string.format('%d %d %d', summary.requests, summary.duration, failed))
end
