select
    demand.day,
    demand.predicted,
    demand.predicted - demand.actual as error,
    demand.temp
from {{ ref('daily_demand') }} as demand
order by demand.predicted desc
limit 10
